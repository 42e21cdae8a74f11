//! How a URL becomes a target: the one place that tests put something else in.

use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::target::Target;
use crate::target::url::TargetUrl;

/// Turns URLs into targets.
pub trait Connect: Send + Sync + fmt::Debug {
    /// The one way to write the URL of the target that a person means by `text`: what is remembered and compared.
    ///
    /// # Errors
    /// Invalid argument if it is none.
    fn normalize(&self, text: &str) -> Result<String>;
    /// The target that is there now.
    ///
    /// # Errors
    /// Not found if nothing is there; `Target` if it cannot be reached.
    fn open(&self, url: &str) -> Result<Arc<dyn Target>>;
    /// The target, with its place made if it is not there.
    ///
    /// # Errors
    /// `Target` or `TargetFull` if it cannot be made or reached.
    fn create(&self, url: &str) -> Result<Arc<dyn Target>>;
}

/// Connects by [`TargetUrl`].
#[derive(Clone, Copy, Debug, Default)]
pub struct UrlConnect;

impl Connect for UrlConnect {
    fn normalize(&self, text: &str) -> Result<String> {
        Ok(TargetUrl::parse(text)?.to_string())
    }

    fn open(&self, url: &str) -> Result<Arc<dyn Target>> {
        TargetUrl::parse(url)?.open()
    }

    fn create(&self, url: &str) -> Result<Arc<dyn Target>> {
        TargetUrl::parse(url)?.create()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use parking_lot::Mutex;

    use super::*;
    use crate::error::{Error, ErrorKind};

    /// Targets by name, made by the test.
    #[derive(Debug, Default)]
    pub(crate) struct Named(pub(crate) Mutex<BTreeMap<String, Arc<dyn Target>>>);

    impl Named {
        pub(crate) fn new(targets: impl IntoIterator<Item = Arc<dyn Target>>) -> Arc<Self> {
            Arc::new(Self(Mutex::new(
                targets.into_iter().map(|target| (target.url().to_owned(), target)).collect(),
            )))
        }

        pub(crate) fn insert(&self, target: Arc<dyn Target>) {
            self.0.lock().insert(target.url().to_owned(), target);
        }

        pub(crate) fn remove(&self, url: &str) {
            self.0.lock().remove(url);
        }
    }

    impl Connect for Named {
        fn normalize(&self, text: &str) -> Result<String> {
            Ok(text.to_owned())
        }

        fn open(&self, url: &str) -> Result<Arc<dyn Target>> {
            let found = self.0.lock().get(url).cloned();
            found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("target {url}: there is none")))
        }

        fn create(&self, url: &str) -> Result<Arc<dyn Target>> {
            self.open(url)
        }
    }
}
