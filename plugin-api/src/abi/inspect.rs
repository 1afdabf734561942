//! Looking at a plugin file without running any of it, from the cheapest check to the dearest.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use object::{
    Object, ObjectSegment, ObjectSymbol, ReadCache,
    read::elf::{FileHeader, ProgramHeader},
};

use super::{
    entry::{CONTRACT_MAJOR, CONTRACT_MINOR, PluginInfo},
    load_error::LoadError,
};

pub(crate) const INFO_SYMBOL: &str = "WARREN_STORE_PLUGIN_INFO";
pub(crate) const ENTRY_SYMBOL: &str = "WARREN_STORE_PLUGIN_ENTRY";

const LIBRARY_FORMAT: &str = if cfg!(target_os = "macos") {
    "a Mach-O library"
} else {
    "an ELF library"
};

/// A file that describes itself as a store plugin of a contract that this host supports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginFile {
    /// The file.
    pub path: PathBuf,
    /// The name by which a configuration selects the store.
    pub name: String,
    /// The plugin's version.
    pub version: String,
    /// Major and minor version of the contract it was built against.
    pub contract: (u32, u32),
}

/// Reads a plugin's description from its file. Runs none of its code.
///
/// # Errors
/// The first reason why the file cannot be used.
pub fn inspect(path: &Path) -> Result<PluginFile, LoadError> {
    let length = check_readable_file(path)?;
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let cache = ReadCache::new(file);
    check_whole(path, &cache, length)?;
    let object =
        object::File::parse(&cache).map_err(|error| not_a_library(path, &cache, &error))?;
    check_architecture(path, &object)?;
    if find_symbol(&object, ENTRY_SYMBOL).is_none() {
        return Err(LoadError::NoEntrySymbol {
            file: path.to_owned(),
            symbol: ENTRY_SYMBOL,
        });
    }
    let info = read_info(path, &object)?;
    check_info(path, info)
}

fn unreadable(path: &Path, error: &std::io::Error) -> LoadError {
    LoadError::Unreadable {
        file: path.to_owned(),
        reason: error.to_string(),
    }
}

fn check_readable_file(path: &Path) -> Result<u64, LoadError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            return Err(match fs::read_link(path) {
                Ok(target) if error.kind() == std::io::ErrorKind::NotFound => {
                    LoadError::DanglingLink {
                        file: path.to_owned(),
                        target,
                    }
                }
                _ => unreadable(path, &error),
            });
        }
    };
    if !metadata.is_file() {
        let found = if metadata.is_dir() {
            "folder"
        } else {
            "special file"
        };
        return Err(LoadError::NotAFile {
            file: path.to_owned(),
            found,
        });
    }
    if metadata.len() == 0 {
        return Err(LoadError::Empty {
            file: path.to_owned(),
        });
    }
    Ok(metadata.len())
}

/// Mapping a file that ends too early kills the process with SIGBUS when the missing part is
/// touched, so every part that the headers speak of must be there.
fn check_whole(path: &Path, cache: &ReadCache<File>, length: u64) -> Result<(), LoadError> {
    const ELF_HEADER_BYTES: u64 = 64;
    let data: &ReadCache<File> = cache;
    if !starts_like_elf(data) {
        return Ok(());
    }
    let cut_off = |expected_bytes: u64| LoadError::CutOff {
        file: path.to_owned(),
        found_bytes: length,
        expected_bytes,
    };
    if length < ELF_HEADER_BYTES {
        return Err(cut_off(ELF_HEADER_BYTES));
    }
    // A 32-bit library is refused later, as one for another processor.
    let Ok(header) = object::elf::FileHeader64::<object::Endianness>::parse(data) else {
        return Ok(());
    };
    let Ok(endian) = header.endian() else {
        return Ok(());
    };
    let section_headers_end = header
        .e_shoff(endian)
        .saturating_add(u64::from(header.e_shentsize(endian)) * u64::from(header.e_shnum(endian)));
    let mut end = section_headers_end;
    if let Ok(segments) = header.program_headers(endian, data) {
        for segment in segments {
            end = end.max(
                segment
                    .p_offset(endian)
                    .saturating_add(segment.p_filesz(endian)),
            );
        }
    } else {
        return Err(cut_off(end.max(length + 1)));
    }
    if end > length {
        Err(cut_off(end))
    } else {
        Ok(())
    }
}

fn starts_like_elf<'data>(data: impl object::ReadRef<'data>) -> bool {
    data.read_bytes_at(0, 4)
        .is_ok_and(|magic| magic == b"\x7fELF")
}

fn not_a_library(path: &Path, cache: &ReadCache<File>, error: &object::Error) -> LoadError {
    let data: &ReadCache<File> = cache;
    let found = if starts_like_elf(data) {
        format!("a damaged ELF file ({error})")
    } else {
        let length = object::ReadRef::len(data).unwrap_or(0).min(16);
        let head = object::ReadRef::read_bytes_at(data, 0, length).unwrap_or_default();
        format!(
            "a file that starts with {:?}",
            String::from_utf8_lossy(head)
        )
    };
    LoadError::NotALibrary {
        file: path.to_owned(),
        found,
        expected: LIBRARY_FORMAT,
    }
}

fn check_architecture<'data>(path: &Path, object: &impl Object<'data>) -> Result<(), LoadError> {
    let found = format!("{:?}", object.architecture()).to_lowercase();
    let matches = match std::env::consts::ARCH {
        "x86" => found == "i386",
        "powerpc64" => found == "powerpc64",
        other => found == other.replace('-', "_"),
    };
    let same_order = object.is_little_endian() == cfg!(target_endian = "little");
    if !matches || !same_order {
        let order = if same_order {
            ""
        } else {
            " of the other byte order"
        };
        return Err(LoadError::WrongArchitecture {
            file: path.to_owned(),
            found: format!("{found}{order}"),
            expected: std::env::consts::ARCH,
        });
    }
    if object.kind() != object::ObjectKind::Dynamic {
        return Err(LoadError::NotALibrary {
            file: path.to_owned(),
            found: format!("{:?} code", object.kind()).to_lowercase(),
            expected: LIBRARY_FORMAT,
        });
    }
    Ok(())
}

/// The address of an exported symbol. Mach-O puts an underscore before each name.
fn find_symbol<'data>(object: &impl Object<'data>, name: &str) -> Option<u64> {
    object
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition())
        .find(|symbol| {
            symbol
                .name()
                .is_ok_and(|found| found.strip_prefix('_').unwrap_or(found) == name)
        })
        .map(|symbol| symbol.address())
}

fn read_info<'data>(path: &Path, object: &impl Object<'data>) -> Result<PluginInfo, LoadError> {
    let missing = || LoadError::NoEntrySymbol {
        file: path.to_owned(),
        symbol: INFO_SYMBOL,
    };
    let address = find_symbol(object, INFO_SYMBOL).ok_or_else(missing)?;
    let size = size_of::<PluginInfo>() as u64;
    let bytes = object
        .segments()
        .find_map(|segment| segment.data_range(address, size).ok().flatten())
        .ok_or_else(|| damaged(path, "it lies outside the file"))?;
    PluginInfo::from_bytes(bytes).ok_or_else(|| damaged(path, "it is too short"))
}

fn damaged(path: &Path, reason: &str) -> LoadError {
    LoadError::DamagedInfo {
        file: path.to_owned(),
        reason: reason.to_owned(),
    }
}

fn check_info(path: &Path, info: PluginInfo) -> Result<PluginFile, LoadError> {
    if info.magic != PluginInfo::MAGIC {
        return Err(damaged(path, "it does not start with Warren's mark"));
    }
    let file = path.to_owned();
    let (found_major, found_minor) = (info.contract_major, info.contract_minor);
    if found_major > CONTRACT_MAJOR
        || (found_major == CONTRACT_MAJOR && found_minor > CONTRACT_MINOR)
    {
        return Err(LoadError::ContractTooNew {
            file,
            found_major,
            found_minor,
        });
    }
    if found_major < CONTRACT_MAJOR {
        return Err(LoadError::ContractTooOld {
            file,
            found_major,
            found_minor,
        });
    }
    if info.panic_aborts != 0 {
        return Err(LoadError::PanicAborts { file });
    }
    let text = |bytes: &[u8], what: &str| {
        let end = bytes
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(bytes.len());
        match std::str::from_utf8(&bytes[..end]) {
            Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => {
                Ok(text.to_owned())
            }
            _ => Err(damaged(path, &format!("its {what} is not plain text"))),
        }
    };
    Ok(PluginFile {
        name: text(&info.name, "name")?,
        version: text(&info.version, "version")?,
        contract: (found_major, found_minor),
        path: file,
    })
}
