//! Writes what every target begins with, its seeds and what broke it once, as files: `corpus FOLDER`.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(std::io::Error::other("expected a folder"));
    };
    for target in fuzz::TARGETS {
        let folder = folder.join(target.name);
        fs_err::create_dir_all(&folder)?;
        for (index, seed) in (target.seeds)().iter().enumerate() {
            fs_err::write(folder.join(format!("seed-{index:03}")), seed)?;
        }
        for (name, bytes) in fuzz::regressions(target.name) {
            fs_err::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
