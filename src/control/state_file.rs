//! The file in which changes of the admin API are kept over a restart: read at the start, written by a thread of its own
//! when something has changed.

use crate::base::{files, time};
use crate::state::changes::Changes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name of the thread.
pub const THREAD: &str = "state-file";
/// The version of the file's form.
const VERSION: u32 = 1;
/// A file that could not be written is tried again after this.
const RETRY: Duration = Duration::from_secs(10);

/// The file as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    evenkeel_state: u32,
    #[serde(flatten)]
    changes: Changes,
}

/// What a start found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// There is no file: no change has been made.
    Nothing,
    /// These changes.
    Changes(Changes),
    /// It could not be read or understood, for this reason, and was renamed.
    SetAside(String),
}

/// Reads the file. What cannot be read or understood is renamed, so that it is not lost and the start goes on. The error is that of
/// the operating system.
pub fn read(path: &Path) -> io::Result<Found> {
    must_be_plain(path)?;
    match changes(path) {
        Ok(None) => Ok(Found::Nothing),
        Ok(Some(changes)) => Ok(Found::Changes(changes)),
        // The next change would write over what this user may not read.
        Err(why) => set_aside(path, &why),
    }
}

/// The changes that a file has; `None` without a file. The error says why they cannot be read or understood.
pub fn changes(path: &Path) -> Result<Option<Changes>, String> {
    let text = match files::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    match serde_json::from_str::<Document>(&text) {
        Ok(document) if document.evenkeel_state == VERSION => Ok(Some(document.changes)),
        Ok(document) => Err(format!("its form has the version {}", document.evenkeel_state)),
        Err(error) => Err(error.to_string()),
    }
}

/// An error for what exists and is no plain file. It must be neither read to its end nor renamed, replaced or removed:
/// root can do that to `/dev/null`, and every other program would miss it.
pub fn must_be_plain(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file"))
        }
        _ => Ok(()),
    }
}

fn set_aside(path: &Path, why: &str) -> io::Result<Found> {
    let path = &files::behind_links(path);
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".damaged-{}", time::unix_seconds()));
    fs::rename(path, &aside)?;
    Ok(Found::SetAside(format!("{why}; it is now {}", Path::new(&aside).display())))
}

/// Writes the file as a whole or not at all: a temporary file beside it, on the disk, then renamed.
pub fn write(path: &Path, changes: &Changes) -> io::Result<()> {
    must_be_plain(path)?;
    let path = &files::behind_links(path);
    let document = Document { evenkeel_state: VERSION, changes: changes.clone() };
    let text = serde_json::to_string_pretty(&document).map_err(io::Error::other)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    // What it names is for operators. A file that is left from another attempt has its permissions.
    let _ = fs::remove_file(&temporary);
    let created = File::options().write(true).create_new(true).mode(0o600).open(&temporary);
    let written = created.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // The new name is on the disk, too. A file system that cannot do that has the old file or the new one.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// The thread that writes.
pub struct Writer {
    path: PathBuf,
    changes: Box<dyn Fn() -> Changes + Send>,
    /// What the file has.
    written: Changes,
    calls: Receiver<Call>,
    failed: bool,
}

/// Tells the thread of a change, or ends it.
#[derive(Clone, Debug)]
pub struct Handle(Sender<Call>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Changed,
    Stop,
}

impl Handle {
    /// Something may have changed. Never waits: calls while the file is being written become one.
    pub fn changed(&self) {
        let _ = self.0.try_send(Call::Changed);
    }

    /// Asks the thread to write what is left to write, and to end.
    pub fn stop(&self) {
        let _ = self.0.send(Call::Stop);
    }
}

impl Writer {
    /// A writer of this file, which has these changes now; `changes` says what it is to have.
    pub fn new(
        path: &Path,
        written: Changes,
        changes: impl Fn() -> Changes + Send + 'static,
    ) -> (Self, Handle) {
        let (call, calls) = bounded(1);
        let changes = Box::new(changes);
        (Writer { path: path.to_owned(), changes, written, calls, failed: false }, Handle(call))
    }

    /// Runs until it is stopped.
    pub fn run(mut self) {
        loop {
            self.write_changes();
            let called = match self.failed {
                true => self.calls.recv_timeout(RETRY),
                false => self.calls.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            if matches!(called, Ok(Call::Stop) | Err(RecvTimeoutError::Disconnected)) {
                return self.write_changes();
            }
        }
    }

    /// Whether the file has other changes than those that were read or written here.
    fn is_shared(&self) -> bool {
        let text = must_be_plain(&self.path).and_then(|()| files::read_to_string(&self.path));
        let document = text.ok().and_then(|text| serde_json::from_str::<Document>(&text).ok());
        document.is_some_and(|document| document.changes != self.written)
    }

    fn write_changes(&mut self) {
        let changes = (self.changes)();
        if changes == self.written {
            return;
        }
        if !self.failed && self.is_shared() {
            log::error!(
                "admin.state_file: another process has written {} since, and what it wrote is replaced; each balancer needs a \
                 file of its own",
                self.path.display()
            );
        }
        match write(&self.path, &changes) {
            Ok(()) => {
                self.written = changes;
                match std::mem::replace(&mut self.failed, false) {
                    true => log::info!("admin.state_file: {} is written again", self.path.display()),
                    false => log::debug!("admin.state_file: {} was written", self.path.display()),
                }
            }
            Err(error) if !std::mem::replace(&mut self.failed, true) => log::error!(
                "admin.state_file: {} cannot be written: {error}; what the admin API changed would be lost at a restart",
                self.path.display()
            ),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::changes::Change;
    use parking_lot::Mutex;
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    fn changes(name: &str) -> Changes {
        let change = Change::Removed { address: "127.0.0.1:1".to_owned() };
        let servers = BTreeMap::from([(name.to_owned(), change)]);
        Changes { pools: BTreeMap::from([("default".to_owned(), servers)]) }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert_eq!(read(&path).unwrap(), Found::Nothing);
        write(&path, &changes("a")).unwrap();
        write(&path, &changes("b")).unwrap();
        assert_eq!(read(&path).unwrap(), Found::Changes(changes("b")));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write(&folder.path().join("none/state.json"), &changes("a")).is_err());
    }

    #[test]
    fn a_link_stays_and_the_file_that_it_leads_to_is_written_and_set_aside() {
        let (folder, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (link, file) = (folder.path().join("state.json"), disk.path().join("kept.json"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for name in ["a", "b"] {
            write(&link, &changes(name)).unwrap();
            assert_eq!(read(&file).unwrap(), Found::Changes(changes(name)));
        }
        fs::write(&file, "{").unwrap();
        assert!(matches!(read(&link).unwrap(), Found::SetAside(_)));
        assert_eq!(fs::read_link(&link).unwrap(), file);
        assert!(!file.exists() && fs::read_dir(disk.path()).unwrap().count() == 1);
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        for text in ["", "{", "[]", "{\"evenkeel_state\": 2, \"pools\": {}}", "{\"pools\": {}}", "\u{0}"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state.json");
            fs::write(&path, text).unwrap();
            assert!(matches!(read(&path).unwrap(), Found::SetAside(_)), "{text:?}");
            assert!(!path.exists());
            let aside = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
            assert!(aside.file_name().to_string_lossy().starts_with("state.json.damaged-"));
            assert_eq!(fs::read_to_string(aside.path()).unwrap(), text);
        }
    }

    #[test]
    fn a_file_that_another_process_writes_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let writer = |has: &str| Writer::new(&path, changes(has), Changes::default).0;
        assert!(!writer("a").is_shared(), "there is no file yet");
        write(&path, &changes("a")).unwrap();
        assert!(!writer("a").is_shared());
        assert!(writer("b").is_shared());
    }

    #[test]
    fn what_is_no_plain_file_stays_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let is_plain_fault =
            |result: io::Result<()>| assert!(result.unwrap_err().to_string().contains("plain file"));
        for target in ["/dev/null", "/dev/zero", "/"] {
            std::os::unix::fs::symlink(target, &path).unwrap();
            is_plain_fault(read(&path).map(drop));
            is_plain_fault(write(&path, &changes("a")));
            assert_eq!(fs::read_link(&path).unwrap(), Path::new(target));
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn the_writer_writes_what_is_there_at_the_end_at_the_latest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let current = Arc::new(Mutex::new(Changes::default()));
        let source = Arc::clone(&current);
        let (writer, handle) = Writer::new(&path, Changes::default(), move || source.lock().clone());
        let thread = std::thread::spawn(move || writer.run());
        for name in ["a", "b", "c"] {
            *current.lock() = changes(name);
            handle.changed();
        }
        handle.stop();
        thread.join().unwrap();
        assert_eq!(read(&path).unwrap(), Found::Changes(changes("c")));
    }
}
