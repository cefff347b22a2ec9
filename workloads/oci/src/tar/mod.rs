//! Reading tar as the world writes it (ustar, GNU, pax, sparse), in constant memory.
//!
//! The `tar` crate decodes the fields of a header; the walk from header to header is ours, because its
//! own reads long names and pax records of any length into memory and knows no pax sparse files.

mod header;
mod pax;
mod sparse;
mod stream;

pub use header::{Entry, Kind};
pub use sparse::Segment;
pub use stream::{TarError, TarReader};

#[cfg(test)]
mod tests;
