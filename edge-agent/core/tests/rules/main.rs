//! Does the core keep its promises when a whole board is played around it? `board` is the board, `hub`
//! speaks for the hub, `hostile` for a broker that lies, `scenarios`, `life`, `probes` and `talk` tell the field's stories, `devices` those of plugs, `chaos`
//! random ones, `seam` is reconcile alone, `cost` prints figures.

mod board;
mod chaos;
mod cost;
mod devices;
mod hostile;
mod hub;
mod life;
mod probes;
mod scenarios;
mod seam;
mod talk;
mod trial;
