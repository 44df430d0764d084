//! The ceilings: a checked-in file with the maximum instructions of each row.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// The margin of a ceiling above the measured count, for another libc or a patch release of the compiler.
const ROOM: f64 = 1.05;
/// A row this far below its ceiling has become faster: the ceiling should be lowered.
const LOW: f64 = 0.85;
const HOW_TO_ACCEPT: &str = "cargo bench --profile instructions --bench instructions -- --accept";

/// The ceilings, and the platform they apply to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Ceilings {
    /// Another architecture has other instructions: nothing is compared there.
    architecture: String,
    /// Another compiler may generate other code: mentioned with a failure.
    compiler: String,
    /// Instructions of one iteration, by row.
    ceilings: BTreeMap<String, f64>,
}

impl Ceilings {
    /// New ceilings from measured counts.
    pub fn of(measured: &[(&str, f64)]) -> Ceilings {
        let ceiling = |(name, count): &(&str, f64)| (name.to_string(), (count * ROOM).ceil());
        Ceilings {
            architecture: std::env::consts::ARCH.to_string(),
            compiler: compiler(),
            ceilings: measured.iter().map(ceiling).collect(),
        }
    }

    /// Reads the file; without a file there are no ceilings.
    pub fn read() -> Result<Ceilings, String> {
        let path = path();
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display())),
            Err(_) => Ok(Ceilings::default()),
        }
    }

    /// Writes the file.
    pub fn write(&self) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        std::fs::write(path(), text + "\n").map_err(|error| format!("{}: {error}", path().display()))
    }

    /// The reason why nothing is compared on this machine.
    pub fn do_not_hold_here(&self) -> Option<String> {
        let here = std::env::consts::ARCH;
        let differs = !self.architecture.is_empty() && self.architecture != here;
        differs.then(|| format!("the ceilings are for {}; on {here} nothing is compared", self.architecture))
    }

    /// One line of the table.
    pub fn line(&self, name: &str, count: f64) -> String {
        match self.ceilings.get(name) {
            Some(ceiling) => {
                let room = (ceiling / count.max(1.0) - 1.0) * 100.0;
                let mark = if count > *ceiling { "  ABOVE" } else { "" };
                format!("{name:<34}{count:>14.1}{ceiling:>12.0}{room:>8.1} %{mark}")
            }
            None => format!("{name:<34}{count:>14.1}{:>12}", "none"),
        }
    }

    /// Prints which rows exceed their ceilings, or have none; false when there is such a row.
    pub fn judge(&self, measured: &[(&str, f64)]) -> bool {
        if self.do_not_hold_here().is_some() {
            return true;
        }
        let mut good = true;
        for (name, count) in measured {
            match self.ceilings.get(*name) {
                None => {
                    good = false;
                    println!("! {name} has no ceiling");
                }
                Some(ceiling) if count > ceiling => {
                    good = false;
                    let above = (count / ceiling - 1.0) * 100.0;
                    println!(
                        "! {name}: {count:.1} instructions, {above:.1} % above its ceiling {ceiling:.0}"
                    );
                }
                Some(ceiling) if *count < ceiling * LOW => {
                    println!("{name} has become faster: lower its ceiling")
                }
                Some(_) => {}
            }
        }
        if !good {
            self.explain();
        }
        good
    }

    fn explain(&self) {
        let here = compiler();
        if here != self.compiler {
            println!("The ceilings were measured with {}, this is {here}.", self.compiler);
        }
        println!(
            "If the cost is intended, accept it and check the file in with the reason:\n  {HOW_TO_ACCEPT}"
        );
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.ceilings.json")
}

fn compiler() -> String {
    let told = Command::new("rustc").arg("--version").output();
    told.map_or("an unknown compiler".to_string(), |told| {
        String::from_utf8_lossy(&told.stdout).trim().to_string()
    })
}
