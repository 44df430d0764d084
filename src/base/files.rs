//! Files that an operator names: reading them without waiting for ever, and why one cannot be read, in words.

use super::time::{self, Moment};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A pipe (a FIFO, or `<(…)` of a shell) has to give what it has within this time: most programs that make a configuration take
/// less. One without a writer would otherwise hold whoever reads it, a reload and the signals behind it among them.
const PIPE_LIMIT: Duration = Duration::from_secs(5);

/// Links that are followed, as by the kernel (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// A file that is being read. Pipes and terminals are waited for, up to [`PIPE_LIMIT`] in all.
#[derive(Debug)]
pub struct Input {
    file: File,
    /// Until when may be waited; a plain file never has to be waited for.
    until: Option<Moment>,
}

/// Opens a file to read it; no call blocks for longer than five seconds. Errors are those of the operating system, and
/// `TimedOut`.
pub fn open(path: &Path) -> Result<Input> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let is_plain = file.metadata()?.is_file();
    Ok(Input { file, until: (!is_plain).then(|| time::now().after(PIPE_LIMIT)) })
}

/// The text of a file of any size.
pub fn read_to_string(path: &Path) -> Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Where the symbolic links of a name lead, whether a file is there or not. A file that is replaced is replaced there: the link,
/// which may lead to another disk, stays.
pub fn behind_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => break,
        }
    }
    path
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        if let Some(until) = self.until {
            self.wait(until)?;
        }
        self.file.read(into)
    }
}

impl Input {
    fn wait(&self, until: Moment) -> Result<()> {
        let left = Timespec::try_from(until.since(time::now())).ok();
        match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], left.as_ref()) {
            Ok(0) => Err(Error::new(
                ErrorKind::TimedOut,
                format!("it is a pipe, and nothing was written to it within {PIPE_LIMIT:?}"),
            )),
            Ok(_) => Ok(()),
            // The caller tries again.
            Err(error) => Err(error.into()),
        }
    }
}

/// A sentence that names the file and says what to do. A relative path is told with the folder that it begins at.
pub fn unreadable(path: &Path, error: &Error) -> String {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound => match std::env::current_dir() {
            Ok(folder) if path.is_relative() => {
                format!("there is no file {shown} in {}; look at the path", folder.display())
            }
            _ => format!("there is no file {shown}; look at the path"),
        },
        ErrorKind::IsADirectory => format!("{shown} is a folder; name a file in it"),
        ErrorKind::PermissionDenied => {
            format!(
                "{shown} cannot be read by this user; give it the right to, or start with a user that has it"
            )
        }
        ErrorKind::InvalidData => format!("{shown} is not UTF-8 text; save it as UTF-8"),
        _ => format!("{shown} cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::io::Write;
    use std::thread;

    #[test]
    fn links_lead_to_a_file_that_need_not_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let link = |target: &Path, name: &str| std::os::unix::fs::symlink(target, path(name)).unwrap();
        link(Path::new("b"), "a");
        link(&path("none/c"), "b");
        assert_eq!(behind_links(&path("a")), path("none/c"));
        assert_eq!(behind_links(&path("other")), path("other"));
        link(Path::new("round"), "round");
        assert_eq!(behind_links(&path("round")), path("round"));
    }

    #[test]
    fn a_pipe_is_read_but_not_waited_for_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let silent = open(&path).map(|input| Input { until: Some(time::now()), ..input });
        let error = silent.unwrap().read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(unreadable(&path, &error).contains("nothing was written to it within 5s"), "{error}");

        let writer = path.clone();
        let writer = thread::spawn(move || {
            let mut pipe = File::options().write(true).open(writer).unwrap();
            pipe.write_all(b"some ").unwrap();
            pipe.write_all(b"text").unwrap();
        });
        assert_eq!(read_to_string(&path).unwrap(), "some text");
        writer.join().unwrap();
    }

    #[test]
    fn a_missing_file_is_told_with_the_folder_where_it_was_looked_for() {
        let missing = Error::from(ErrorKind::NotFound);
        let folder = std::env::current_dir().unwrap();
        let expected = format!("there is no file a/b.pem in {}; look at the path", folder.display());
        assert_eq!(unreadable(Path::new("a/b.pem"), &missing), expected);
        assert_eq!(
            unreadable(Path::new("/a/b.pem"), &missing),
            "there is no file /a/b.pem; look at the path"
        );
        let denied = unreadable(Path::new("k"), &Error::from(ErrorKind::PermissionDenied));
        assert!(denied.starts_with("k cannot be read by this user; "), "{denied}");
    }
}
