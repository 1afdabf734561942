//! Who asks: the options, the environment, a shared file, or what the machine is given.

use std::{
    fs,
    path::{Path, PathBuf},
};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};
use warren_plugin_api::{StoreError, StoreResult};

use crate::config::S3Config;

/// What the environment may say of who asks, as object_store reads it. Nothing else is taken from
/// there: which service and bucket it is, the options say.
const IDENTITY: [Key; 12] = [
    Key::AccessKeyId,
    Key::SecretAccessKey,
    Key::Token,
    Key::WebIdentityTokenFile,
    Key::RoleArn,
    Key::RoleSessionName,
    Key::StsEndpoint,
    Key::ContainerCredentialsRelativeUri,
    Key::ContainerCredentialsFullUri,
    Key::ContainerAuthorizationTokenFile,
    Key::ImdsV1Fallback,
    Key::MetadataEndpoint,
];

/// Those that say it all.
const SUFFICIENT: [Key; 4] = [
    Key::AccessKeyId,
    Key::WebIdentityTokenFile,
    Key::ContainerCredentialsRelativeUri,
    Key::ContainerCredentialsFullUri,
];

/// A builder that knows its credentials, or where they come from: the options; a profile that is
/// named; the environment's key, web identity or container; the profile `default`; the metadata
/// of the machine.
pub(crate) fn builder(config: &S3Config) -> StoreResult<AmazonS3Builder> {
    if let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) {
        let profile = Profile {
            id: id.clone(),
            secret: secret.clone(),
            token: config.session_token.clone(),
        };
        return Ok(profile.builder());
    }
    if let Some(name) = &config.profile {
        return named(name);
    }
    let environment = AmazonS3Builder::from_env();
    let is_set = |key| environment.get_config_value(key).is_some();
    if !SUFFICIENT.iter().any(is_set) {
        if let Ok(name) = std::env::var("AWS_PROFILE") {
            return named(&name);
        }
        let text = shared_file().and_then(|path| read(&path));
        if let Some(profile) = text.ok().and_then(|text| Profile::find(&text, "default")) {
            return Ok(profile.builder());
        }
    }
    let mut builder = AmazonS3Builder::new();
    for key in IDENTITY {
        if let Some(value) = environment.get_config_value(&key) {
            builder = builder.with_config(key, value);
        }
    }
    Ok(builder)
}

fn named(name: &str) -> StoreResult<AmazonS3Builder> {
    let path = shared_file()?;
    let profile = Profile::find(&read(&path)?, name).ok_or_else(|| {
        StoreError::invalid_config(format!(
            "{} has no section [{name}] with aws_access_key_id and aws_secret_access_key, expected \
             one for the profile",
            path.display()
        ))
    })?;
    Ok(profile.builder())
}

fn read(path: &Path) -> StoreResult<String> {
    fs::read_to_string(path).map_err(|error| {
        StoreError::invalid_config(format!(
            "the shared credentials file {} cannot be read: {error}",
            path.display()
        ))
    })
}

fn shared_file() -> StoreResult<PathBuf> {
    if let Some(path) = std::env::var_os("AWS_SHARED_CREDENTIALS_FILE") {
        return Ok(path.into());
    }
    let home = std::env::home_dir().ok_or_else(|| {
        StoreError::invalid_config(
            "profile is set and this user has no home folder: name the file by \
             AWS_SHARED_CREDENTIALS_FILE",
        )
    })?;
    Ok(home.join(".aws").join("credentials"))
}

/// A section of a shared credentials file.
#[derive(PartialEq, Eq, Default)]
struct Profile {
    id: String,
    secret: String,
    token: Option<String>,
}

impl Profile {
    fn find(text: &str, name: &str) -> Option<Self> {
        let mut profile = Self::default();
        let mut is_in_it = false;
        for line in text.lines().map(str::trim) {
            if let Some(section) = line.strip_prefix('[') {
                is_in_it = section.trim_end_matches(']').trim() == name;
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| is_in_it) else {
                continue;
            };
            let value = value.trim().to_owned();
            match key.trim() {
                "aws_access_key_id" => profile.id = value,
                "aws_secret_access_key" => profile.secret = value,
                "aws_session_token" => profile.token = Some(value),
                _ => {}
            }
        }
        (!profile.id.is_empty() && !profile.secret.is_empty()).then_some(profile)
    }

    fn builder(self) -> AmazonS3Builder {
        let builder = AmazonS3Builder::new()
            .with_access_key_id(self.id)
            .with_secret_access_key(self.secret);
        match self.token {
            Some(token) => builder.with_token(token),
            None => builder,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_by_its_name() {
        let text = "# comment\n[default]\naws_access_key_id = A\naws_secret_access_key=B=\n\n\
                    [ jobs ]\naws_access_key_id=C\naws_secret_access_key = D\n\
                    aws_session_token = E\n[half]\naws_access_key_id = F\n";
        let is = |name: &str, id: &str, secret: &str, token: Option<&str>| {
            Profile::find(text, name)
                == Some(Profile {
                    id: id.into(),
                    secret: secret.into(),
                    token: token.map(Into::into),
                })
        };
        assert!(is("default", "A", "B=", None));
        assert!(is("jobs", "C", "D", Some("E")));
        assert!(Profile::find(text, "half").is_none());
        assert!(Profile::find(text, "other").is_none());
    }
}
