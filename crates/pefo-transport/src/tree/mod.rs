pub mod entry;
pub mod message;
pub mod session;
pub mod summary;
