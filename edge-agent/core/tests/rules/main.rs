//! Does the core keep its promises when a whole board is played around it? `board` is the board, `hub`
//! speaks for the hub, `scenarios` are the field's stories, `chaos` random ones, `cost` prints figures.

mod board;
mod chaos;
mod cost;
mod hub;
mod scenarios;
mod seam;
