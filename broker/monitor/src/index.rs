//! `/`: a page for people, with the other endpoints.

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
    ("raftz", "Raft groups"),
    ("healthz", "Health"),
    ("metrics", "Prometheus metrics"),
    ("debug/vars", "Process"),
];

const STYLE: &str = "body{font:16px/1.6 system-ui,sans-serif;margin:3rem auto;max-width:34rem;padding:0 1rem;\
color:#222;background:#fff}h1{font-size:1.5rem;margin:0}p{color:#666;margin:0 0 1.5rem}\
ul{list-style:none;margin:0;padding:0}a{display:flex;justify-content:space-between;padding:.35rem 0;\
border-bottom:1px solid #eee;color:inherit;text-decoration:none}a:hover,a:focus{color:#0b62c4}\
code{color:#767676}@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}p{color:#999}\
a{border-color:#333}a:hover,a:focus{color:#7db6ff}}";

/// `base_path` is where the endpoints are: empty, or with a leading slash.
pub(crate) fn page(server_name: &str, version: &str, base_path: &str) -> String {
    let link = |(path, title): &(&str, &str)| {
        format!("<li><a href=\"{base_path}/{path}\">{title} <code>/{path}</code></a></li>\n")
    };
    let links: String = ENDPOINTS.iter().map(link).collect();
    let name = escaped(server_name);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{name} - Weir</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>{name}</h1>\n<p>Weir, compatible with nats-server {version}</p>\n<ul>\n{links}</ul>\n</body>\n</html>\n"
    )
}

/// Text that HTML shows as it is.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_links_lie_below_the_base_path_and_names_are_text() {
        let page = page("<a>", "1", "/mon");
        assert!(page.contains("href=\"/mon/varz\""));
        assert!(page.contains("<h1>&lt;a&gt;</h1>"));
    }
}
