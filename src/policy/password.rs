//! Basic authentication: users and the hashes of their passwords (the lines of an htpasswd file), credentials (RFC 7617),
//! and what is remembered so that a request does not cost a password hash.
//!
//! A password hash takes 50 ms and more of a processor, on purpose. So [`Users::verify`] is for a thread of its own, and
//! [`Remembered`] is asked first. It holds 128 bits of a keyed hash of name, password and stored hash, never a password.

use super::key::{Key, Keys};
use super::recent::Recent;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordVerifier};
use base64::prelude::{BASE64_STANDARD, Engine};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// bcrypt at this cost takes seconds.
const BCRYPT_COST_MAX: u32 = 16;
/// The most memory that one argon2 hash may take, in KiB.
const ARGON2_KIB_MAX: u32 = 256 * 1024;
/// How to make a line.
const MAKE_ONE: &str = "make a line with: htpasswd -nB NAME";

/// The users that may come in.
#[derive(Clone, PartialEq, Eq)]
pub struct Users {
    by_name: HashMap<String, Hash>,
    /// Verified in the place of an unknown user's, so that both take the same time.
    decoy: Hash,
}

/// A stored hash of a password.
#[derive(Clone, PartialEq, Eq)]
enum Hash {
    Bcrypt(Box<str>),
    Argon2(Box<str>),
}

/// A name and a password as a request has them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name; no colon and no control characters.
    pub name: String,
    password: Vec<u8>,
}

impl Users {
    /// Reads the lines of an htpasswd file: `name:hash` with bcrypt or argon2; `#` begins a comment. The errors are
    /// sentences with the number of the line, all of them.
    pub fn parse(text: &str) -> Result<Users, Vec<String>> {
        let mut by_name = HashMap::new();
        let mut faults = Vec::new();
        let mut first = None;
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match entry(line) {
                Ok((name, hash)) => {
                    first.get_or_insert_with(|| hash.clone());
                    if by_name.insert(name.to_owned(), hash).is_some() {
                        faults.push(format!("line {}: {name:?} is there twice; keep one line", at + 1));
                    }
                }
                Err(fault) => faults.push(format!("line {}: {fault}", at + 1)),
            }
        }
        match first {
            Some(decoy) if faults.is_empty() => Ok(Users { by_name, decoy }),
            None if faults.is_empty() => Err(vec![format!("has no users; {MAKE_ONE}")]),
            _ => Err(faults),
        }
    }

    /// Whether the credentials are those of a user. Takes tens of milliseconds of a processor, for an unknown name as for
    /// a known one.
    pub fn verify(&self, credentials: &Credentials) -> bool {
        let hash = self.by_name.get(&credentials.name);
        hash.unwrap_or(&self.decoy).verify(&credentials.password) & hash.is_some()
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The stored hash decides, too: one that is changed makes other keys.
    fn key(&self, keys: &Keys, credentials: &Credentials) -> Key {
        let stored = self.by_name.get(&credentials.name).map_or("", Hash::text);
        keys.of(&[credentials.name.as_bytes(), &credentials.password, stored.as_bytes()])
    }
}

impl fmt::Debug for Users {
    /// Hashes do not belong into logs.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} users", self.by_name.len())
    }
}

/// Name and hash of a line.
fn entry(line: &str) -> Result<(&str, Hash), String> {
    let (name, hash) = line.split_once(':').ok_or_else(|| format!("has no colon; {MAKE_ONE}"))?;
    if name.is_empty() || name.contains(char::is_control) {
        return Err("has no valid name in front of the colon".to_owned());
    }
    hash.trim().parse().map(|hash| (name, hash)).map_err(|fault: String| format!("{name:?}: {fault}"))
}

impl Hash {
    /// Comparing takes the same time wherever the hashes differ; both crates see to that.
    fn verify(&self, password: &[u8]) -> bool {
        match self {
            Hash::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Hash::Argon2(hash) => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
        }
    }

    fn text(&self) -> &str {
        let (Hash::Bcrypt(hash) | Hash::Argon2(hash)) = self;
        hash
    }
}

impl FromStr for Hash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let weak = match text {
            _ if text.starts_with("$2a$") || text.starts_with("$2b$") || text.starts_with("$2y$") => {
                return bcrypt(text);
            }
            _ if text.starts_with("$argon2") => return argon2(text),
            _ if text.starts_with("$apr1$") || text.starts_with("$1$") => "MD5",
            _ if text.starts_with("{SHA}") || text.starts_with("{SSHA}") => "SHA-1",
            _ if text.starts_with("$5$") || text.starts_with("$6$") => "SHA-crypt",
            _ if text.len() == 13 && !text.starts_with('$') => "crypt",
            _ => return Err(format!("the hash is neither bcrypt nor argon2; {MAKE_ONE}")),
        };
        Err(format!("the hash is {weak}, which can be guessed too fast or is not supported; {MAKE_ONE}"))
    }
}

fn bcrypt(text: &str) -> Result<Hash, String> {
    let parts = text.parse::<bcrypt::HashParts>();
    match parts.map(|parts| parts.get_cost()) {
        Ok(4..=BCRYPT_COST_MAX) => Ok(Hash::Bcrypt(text.into())),
        Ok(cost) => {
            Err(format!("the cost of the bcrypt hash is {cost}; make one with 4 to {BCRYPT_COST_MAX}"))
        }
        Err(_) => Err(format!("the bcrypt hash is malformed; {MAKE_ONE}")),
    }
}

fn argon2(text: &str) -> Result<Hash, String> {
    let malformed = "the argon2 hash is malformed; make one with: argon2 SALT -id -e";
    let hash = PasswordHash::new(text).map_err(|_| malformed.to_owned())?;
    let params = argon2::Params::try_from(&hash).map_err(|_| malformed.to_owned())?;
    if params.m_cost() > ARGON2_KIB_MAX || params.t_cost() > 16 {
        return Err(format!(
            "the argon2 hash takes {} KiB and {} passes; make one with at most {ARGON2_KIB_MAX} and 16",
            params.m_cost(),
            params.t_cost()
        ));
    }
    Ok(Hash::Argon2(text.into()))
}

impl Credentials {
    /// The credentials of an `Authorization` header (RFC 7617); `None` for another scheme, or where they are malformed.
    pub fn parse(value: &[u8]) -> Option<Credentials> {
        let space = value.iter().position(|byte| *byte == b' ')?;
        let (scheme, rest) = value.split_at(space);
        if !scheme.eq_ignore_ascii_case(b"Basic") {
            return None;
        }
        let decoded = BASE64_STANDARD.decode(rest.trim_ascii()).ok()?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        let name = std::str::from_utf8(&decoded[..colon]).ok()?;
        if name.is_empty() || name.contains(char::is_control) {
            return None;
        }
        Some(Credentials { name: name.to_owned(), password: decoded[colon + 1..].to_vec() })
    }
}

impl fmt::Debug for Credentials {
    /// Passwords do not belong into logs.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "credentials of {:?}", self.name)
    }
}

/// What came of recent credentials. A hash always gives the same result, so nothing in it expires.
#[derive(Debug)]
pub struct Remembered {
    keys: Keys,
    right: Mutex<Recent<()>>,
    /// Apart, so that guesses push out nothing that is right.
    wrong: Mutex<Recent<()>>,
}

impl Remembered {
    /// Remembers about so many credentials that are right, and as many that are not.
    pub fn new(most: usize) -> Self {
        let recent = || Mutex::new(Recent::new(most));
        Remembered { keys: Keys::default(), right: recent(), wrong: recent() }
    }

    /// Whether the credentials are those of a user, as far as that is known.
    pub fn get(&self, users: &Users, credentials: &Credentials) -> Option<bool> {
        let key = users.key(&self.keys, credentials);
        if self.right.lock().get(key).is_some() {
            return Some(true);
        }
        self.wrong.lock().get(key).map(|_| false)
    }

    /// Remembers what came of them.
    pub fn set(&self, users: &Users, credentials: &Credentials, is_right: bool) {
        let key = users.key(&self.keys, credentials);
        let which = if is_right { &self.right } else { &self.wrong };
        which.lock().set(key, (), |()| false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of "open sesame", at the lowest cost; the second as `htpasswd -nB` writes it.
    fn bcrypt_line(name: &str, password: &str) -> String {
        format!("{name}:{}", bcrypt::hash(password, 4).unwrap())
    }

    fn argon2_line(name: &str, password: &str) -> String {
        use argon2::password_hash::CustomizedPasswordHasher;
        let params = argon2::Params::new(64, 1, 1, None).unwrap();
        let hash = Argon2::default()
            .hash_password_customized(password.as_bytes(), b"saltsalt", None, None, params)
            .unwrap();
        format!("{name}:{hash}")
    }

    fn credentials(name: &str, password: &str) -> Credentials {
        let text = format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")));
        Credentials::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn users_are_verified_by_bcrypt_and_argon2() {
        let lines = [
            "# those of the office".to_owned(),
            String::new(),
            bcrypt_line("ann", "open sesame"),
            bcrypt_line("bob", "pass:word").replace("$2b$", "$2y$"),
            argon2_line("cleo", "schlüssel"),
        ];
        let users = Users::parse(&lines.join("\n")).unwrap();
        assert_eq!(users.len(), 3);
        for (name, password, expected) in [
            ("ann", "open sesame", true),
            ("ann", "open sesam", false),
            ("ann", "", false),
            ("bob", "pass:word", true),
            ("bob", "open sesame", false),
            ("cleo", "schlüssel", true),
            ("cleo", "schluessel", false),
            ("dora", "open sesame", false),
            ("Ann", "open sesame", false),
        ] {
            assert_eq!(users.verify(&credentials(name, password)), expected, "{name} {password}");
        }
        assert_eq!(format!("{users:?} {:?}", credentials("a", "secret")), "3 users credentials of \"a\"");
    }

    /// Made by `htpasswd -bB` of Apache and by `argon2 SALT -e` of the reference implementation.
    #[test]
    fn files_of_the_usual_programs_are_read() {
        let file = "ann:$2y$05$PjSne1NBStv1TNKcrL2NjuonMN3.VPi3M9RNvfzj.mDedfi8qlRCq\r\n\
            bob:$argon2i$v=19$m=4096,t=3,p=2$c29tZXNhbHRzYWx0$LR4Dc1O04avVbzTz5JdZvyZRESc/q+C2087wwlXez98\n\
            cleo:$argon2d$v=19$m=4096,t=2,p=1$c29tZXNhbHRzYWx0$OulGtI0dzIffl9U+3K/zuDJnaGLhNucJbr1y6HS8uiI\n";
        let users = Users::parse(file).unwrap();
        for (name, password, expected) in [
            ("ann", "open", true),
            ("bob", "open", true),
            ("cleo", "open", true),
            ("ann", "shut", false),
            ("cleo", "shut", false),
        ] {
            assert_eq!(users.verify(&credentials(name, password)), expected, "{name} {password}");
        }
    }

    #[track_caller]
    fn check_fault(text: &str, expected: &[&str]) {
        let faults = Users::parse(text).unwrap_err();
        assert_eq!(faults.len(), expected.len(), "{faults:?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.contains(expected), "{fault}");
        }
    }

    #[test]
    fn hashes_that_can_be_guessed_are_rejected_with_advice() {
        check_fault("", &["no users"]);
        check_fault("ann", &["line 1: has no colon; make a line with: htpasswd -nB NAME"]);
        check_fault("a:$apr1$ihpI83gC$OHr8NQOaA2r.9VeDkHKz61", &["the hash is MD5"]);
        check_fault("a:{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=", &["the hash is SHA-1"]);
        check_fault("a:rqXexS6ZhobKA", &["the hash is crypt"]);
        check_fault("a:$6$salt$IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4", &["SHA-crypt"]);
        check_fault("a:secret", &["neither bcrypt nor argon2"]);
        check_fault("a:$2y$05$short", &["bcrypt hash is malformed"]);
        check_fault("a:$argon2id$v=19$m=x", &["argon2 hash is malformed"]);
        check_fault(":$2y$05$short\n\n# x\nb:secret", &["line 1: has no valid name", "line 4: \"b\""]);
        let twice = format!("{}\n{}", bcrypt_line("a", "1"), bcrypt_line("a", "2"));
        check_fault(&twice, &["line 2: \"a\" is there twice"]);
        let cost = bcrypt_line("a", "1").replace("$04$", "$20$");
        check_fault(&cost, &["cost of the bcrypt hash is 20"]);
        let large = argon2_line("a", "1").replace("m=64", "m=2097152");
        check_fault(&large, &["takes 2097152 KiB"]);
    }

    #[test]
    fn credentials_are_read() {
        for (value, expected) in [
            ("Basic YW5uOm9wZW4=", Some(("ann", "open"))),
            ("basic  YW5uOm9wZW4= ", Some(("ann", "open"))),
            ("BASIC YW5uOmE6Yg==", Some(("ann", "a:b"))),
            ("Basic YW5uOg==", Some(("ann", ""))),
            ("Basic YW5u", None),
            ("Basic OnB3", None),
            ("Basic", None),
            ("", None),
            ("Basic ####", None),
            ("Bearer YW5uOm9wZW4=", None),
            ("Basic YQA6Yg==", None),
        ] {
            let found = Credentials::parse(value.as_bytes());
            let found =
                found.as_ref().map(|found| (&*found.name, std::str::from_utf8(&found.password).unwrap()));
            assert_eq!(found, expected, "{value}");
        }
    }

    #[test]
    fn what_is_remembered_is_bound_to_the_stored_hash() {
        let users = Users::parse(&bcrypt_line("ann", "open")).unwrap();
        let (right, wrong) = (credentials("ann", "open"), credentials("ann", "shut"));
        let remembered = Remembered::new(2);
        assert_eq!(remembered.get(&users, &right), None);
        remembered.set(&users, &right, true);
        remembered.set(&users, &wrong, false);
        assert_eq!(remembered.get(&users, &right), Some(true));
        assert_eq!(remembered.get(&users, &wrong), Some(false));
        for guess in 0..100 {
            remembered.set(&users, &credentials("ann", &guess.to_string()), false);
        }
        assert_eq!(remembered.get(&users, &right), Some(true), "guesses push out only guesses");
        let changed = Users::parse(&bcrypt_line("ann", "new")).unwrap();
        assert_eq!(remembered.get(&changed, &right), None);
        let none = Users::parse(&bcrypt_line("bob", "open")).unwrap();
        assert_eq!(remembered.get(&none, &right), None);
    }
}
