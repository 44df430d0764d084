//! `evenkeel completions` and `evenkeel man`: files for shells and for `man`, made from the command line itself.

use super::{Arguments, Failure, failed};
use crate::base::output;
use clap::{Args, CommandFactory, ValueEnum};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A shell that completions are made for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// The arguments of `evenkeel man`.
#[derive(Clone, Debug, Args)]
pub struct Man {
    /// Write a page for each command into this folder, instead of printing the first
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The command whose page is printed, such as run or config export [default: the page of the program]
    #[arg(value_name = "COMMAND", conflicts_with = "folder")]
    command: Vec<String>,
}

/// Prints the completions for a shell.
pub(super) fn completions(shell: Shell) -> Result<u8, Failure> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "evenkeel", &mut script);
    print(&script)
}

/// Prints the page of the program, or writes the pages of all commands.
pub(super) fn man(arguments: &Man) -> Result<u8, Failure> {
    let command = Arguments::command();
    match &arguments.folder {
        Some(folder) => {
            let command = command.disable_help_subcommand(true);
            fs::create_dir_all(folder).and_then(|()| write_pages(command, folder)).map_err(|error| {
                failed(format!("cannot write into the folder {}: {error}", folder.display()))
            })?;
            Ok(0)
        }
        None => {
            let command = below(command, &arguments.command)?;
            let mut text = Vec::new();
            page(command).render(&mut text).map_err(failed)?;
            print(&text)
        }
    }
}

/// The command with these names, each below the one before.
fn below(mut command: clap::Command, names: &[String]) -> Result<clap::Command, Failure> {
    command.build();
    for name in names {
        let found = command.find_subcommand(name).cloned();
        command = found.ok_or_else(|| Failure::Usage(format!("there is no command {name}")))?;
    }
    Ok(command)
}

/// The pages of this command and of those below it.
fn write_pages(mut command: clap::Command, folder: &Path) -> io::Result<()> {
    command.build();
    for below in command.get_subcommands().filter(|each| !each.is_hide_set()) {
        write_pages(below.clone(), folder)?;
    }
    page(command).generate_to(folder).map(drop)
}

/// Without a date, so that it is the same each time it is made. An empty one would be left out, and what follows it taken
/// for the date.
fn page(command: clap::Command) -> clap_mangen::Man {
    let source = concat!("evenkeel ", env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(command).date(" ").source(source).manual("Evenkeel")
}

fn print(bytes: &[u8]) -> Result<u8, Failure> {
    output::print(bytes);
    Ok(0)
}
