//! Layer 0: the basis of all others. Nothing here depends on HTTP or on servers.

pub mod cryptography;
pub mod files;
pub mod html;
pub mod ids;
pub mod inherited;
pub mod limits;
pub mod lines;
pub mod load;
pub mod local;
pub mod log_linear;
pub mod network;
pub mod output;
pub mod program;
pub mod random;
pub mod signals;
pub mod sys;
pub mod template;
pub mod text;
pub mod time;
pub mod trust;
pub mod unix_listener;
pub mod version_1;
