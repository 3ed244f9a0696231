//! What an object store answered, without the client's words around it.

/// The gist of an error text of an object store client: code and message of an XML answer, or who did not answer and why.
/// Equal failures give equal texts (no durations, no request ids), so that a status line can tell whether anything is new.
pub fn store_answer(text: &str) -> String {
    if let (Some(code), Some(message)) = (between(text, "<Code>", "</Code>"), between(text, "<Message>", "</Message>")) {
        return format!("{code}: {message}");
    }
    let gist =
        text.split_once("Error performing ").and_then(|(_, request)| request.split_once(" - ")).map(|(request, reason)| {
            match request.split(' ').find(|word| word.contains("://")) {
                Some(url) => format!("{}: {reason}", origin(url)),
                None => reason.to_string(),
            }
        });
    gist.as_deref().unwrap_or(text).lines().next().unwrap_or_default().to_string()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inner, _)| inner)
}

/// `http://host:port` of a URL.
fn origin(url: &str) -> &str {
    let host_start = url.find("://").map_or(0, |at| at + 3);
    let length = url[host_start..].find('/').unwrap_or(url.len() - host_start);
    &url[..host_start + length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gists() {
        let check = |text: &str, expected: &str| assert_eq!(store_answer(text), expected);
        check(
            "Object at location a/b not found: Error performing PUT http://127.0.0.1:5000/nowhere/a/b in 104.051313ms - Server \
             returned non-2xx status code: 404 Not Found: <?xml version=\"1.0\"?>\n<Error><Code>NoSuchBucket</Code>\
             <Message>The specified bucket does not exist</Message><RequestId>y6</RequestId></Error>",
            "NoSuchBucket: The specified bucket does not exist",
        );
        check(
            "Generic S3 error: Error performing list request: Error performing GET http://127.0.0.1:1/b?list-type=2 in 551.2ms, \
             after 4 retries, max_retries: 4, retry_timeout: 20s  - HTTP error: error sending request: Connection refused",
            "http://127.0.0.1:1: HTTP error: error sending request: Connection refused",
        );
        check("disk full\nsecond line", "disk full");
    }
}
