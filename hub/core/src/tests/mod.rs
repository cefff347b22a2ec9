//! The core as a whole, against a store and boards made for it.

mod access;
mod admission;
mod artifacts;
mod bed;
mod board;
mod commands;
mod data;
mod drains;
mod fleet;
mod hostile;
mod images;
mod oracle;
mod placement;
mod priority;
mod registries;
mod restore;
mod sessions;
mod steadiness;
mod talk;
mod trust;
mod worlds;
