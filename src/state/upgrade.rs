//! How far an upgrade of the running binary came, for those who ask for one and those who wait for it.

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The last upgrade of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Upgrade {
    /// There was none.
    #[default]
    None,
    /// The new process is starting.
    Running,
    /// The new process did not become ready; this one goes on.
    Failed {
        /// Why, as a sentence.
        error: String,
    },
    /// The new process has taken over; this one drains.
    Done {
        /// The new process.
        pid: u32,
    },
}

/// Asks for an upgrade, and tells how far it came.
#[derive(Debug)]
pub struct Upgrading {
    state: Mutex<Upgrade>,
    /// The configuration came from a place that a new process cannot read again, for this reason.
    impossible: Option<String>,
    asked: (Sender<()>, Receiver<()>),
}

impl Upgrading {
    /// None was asked for yet. With a reason why there can be none, none can be asked for.
    pub fn new(impossible: Option<String>) -> Self {
        Upgrading { state: Mutex::default(), impossible, asked: bounded(1) }
    }

    /// Asks for one. The error says why there will be none.
    pub fn ask(&self) -> Result<(), String> {
        if let Some(why) = &self.impossible {
            return Err(why.clone());
        }
        let mut state = self.state.lock();
        if matches!(*state, Upgrade::Running | Upgrade::Done { .. }) {
            return Err("an upgrade is going on already".to_owned());
        }
        *state = Upgrade::Running;
        // There is one message for each change to this state, and room for it.
        let _ = self.asked.0.try_send(());
        Ok(())
    }

    /// Where it is heard that one was asked for.
    pub fn asked(&self) -> &Receiver<()> {
        &self.asked.1
    }

    /// How far it came.
    pub fn state(&self) -> Upgrade {
        self.state.lock().clone()
    }

    /// It ended so.
    pub fn ended(&self, outcome: &Result<u32, String>) {
        *self.state.lock() = match outcome {
            Ok(pid) => Upgrade::Done { pid: *pid },
            Err(error) => Upgrade::Failed { error: error.clone() },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_none_after_one_that_was_done() {
        let upgrading = Upgrading::new(None);
        assert_eq!(upgrading.state(), Upgrade::None);
        upgrading.ask().unwrap();
        assert!(upgrading.ask().is_err() && upgrading.asked().try_recv().is_ok());
        upgrading.ended(&Err("it broke".to_owned()));
        assert_eq!(upgrading.state(), Upgrade::Failed { error: "it broke".to_owned() });
        upgrading.ask().unwrap();
        upgrading.ended(&Ok(7));
        assert!(upgrading.ask().is_err());
        assert_eq!(serde_json::to_string(&upgrading.state()).unwrap(), r#"{"state":"done","pid":7}"#);
        assert_eq!(Upgrading::new(Some("no".to_owned())).ask(), Err("no".to_owned()));
    }
}
