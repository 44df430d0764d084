//! Floor 0: what everything stands on. Nothing here knows of HTTP or of servers.

pub mod dice;
pub mod ids;
pub mod limits;
pub mod lines;
pub mod load;
pub mod local;
pub mod output;
pub mod program;
pub mod signals;
pub mod sys;
pub mod text;
pub mod time;
