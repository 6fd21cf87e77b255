//! Errors of the Kubernetes API in the words that people are shown: the server's own sentence, not the whole answer.

/// A failed request to the Kubernetes API.
#[derive(Debug)]
pub struct KubeError(Box<kube::Error>);

impl From<kube::Error> for KubeError {
    fn from(error: kube::Error) -> Self {
        Self(Box::new(error))
    }
}

impl std::fmt::Display for KubeError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.0 {
            kube::Error::Api(status) if !status.message.is_empty() => formatter.write_str(&status.message),
            other => other.fmt(formatter),
        }
    }
}

impl std::error::Error for KubeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}
