//! `/`: a page with the other endpoints.

/// The endpoints, with what they show.
const ENDPOINTS: &[(&str, &str)] = &[
    ("varz", "General"),
    ("jsz", "JetStream"),
    ("connz", "Connections"),
    ("accountz", "Accounts"),
    ("accstatz", "Account statistics"),
    ("subsz", "Subscriptions"),
    ("routez", "Routes"),
    ("leafz", "Leaf nodes"),
    ("gatewayz", "Gateways"),
    ("healthz", "Health"),
    ("metrics", "Prometheus metrics"),
];

pub(crate) fn page(version: &str) -> String {
    let links: String = ENDPOINTS
        .iter()
        .map(|(path, title)| format!("<li><a href=\"./{path}\">{title} <code>/{path}</code></a></li>\n"))
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><title>Weir</title></head>\n<body>\n\
         <h1>Weir</h1>\n<p>v{version}</p>\n<ul>\n{links}</ul>\n</body>\n</html>\n"
    )
}
