//! `properties.*`: which client properties are passed on, and under what name.
//!
//! Users bring files written for the Java client; the client here is librdkafka. Some of its properties load code
//! (`plugin.library.paths`) or run programs (`sasl.kerberos.kinit.cmd`), so nothing passes that is not on the list.

use rdkafka::ClientConfig;
use thalweg_core::{Code, Diagnostic, Options};

/// What happens to a property.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// Passed on under the same name.
    Pass,
    /// Passed on under librdkafka's name.
    As(&'static str),
    /// Read by the connector itself, or of no meaning outside the Java client.
    Taken,
    /// Not passed on; the text says what to do instead.
    Refuse(&'static str),
}

use Rule::{As, Pass, Refuse, Taken};

const PEM_HELP: &str =
    "Java key stores cannot be read: export the certificates as PEM and name the file in 'properties.ssl.ca.location'";
const OAUTH_HELP: &str = "OAUTHBEARER is not built in: use SASL PLAIN or SCRAM, or TLS client certificates";
const CODE_HELP: &str = "the property can load or run code, so it is never passed on; remove it";

/// In order of name. A name that is not here is refused.
const RULES: &[(&str, Rule)] = &[
    ("acks", Pass),
    ("allow.auto.create.topics", Taken),
    ("auto.commit.interval.ms", Taken),
    ("auto.offset.reset", Taken),
    ("batch.size", Pass),
    ("bootstrap.servers", Pass),
    ("broker.address.family", Pass),
    ("buffer.memory", Taken),
    ("check.crcs", Pass),
    ("client.dns.lookup", Pass),
    ("client.id", Pass),
    ("client.rack", Pass),
    ("compression.codec", Pass),
    ("compression.level", Pass),
    ("compression.type", Pass),
    ("connections.max.idle.ms", Pass),
    ("delivery.timeout.ms", As("message.timeout.ms")),
    ("enable.auto.commit", Taken),
    ("enable.idempotence", Pass),
    ("fetch.error.backoff.ms", Pass),
    ("fetch.max.bytes", Pass),
    ("fetch.max.wait.ms", As("fetch.wait.max.ms")),
    ("fetch.message.max.bytes", Pass),
    ("fetch.min.bytes", Pass),
    ("fetch.wait.max.ms", Pass),
    ("group.id", Pass),
    ("heartbeat.interval.ms", Taken),
    ("isolation.level", Pass),
    ("key.deserializer", Taken),
    ("key.serializer", Taken),
    ("linger.ms", Pass),
    ("max.in.flight.requests.per.connection", Pass),
    ("max.partition.fetch.bytes", Pass),
    ("max.poll.interval.ms", Taken),
    ("max.poll.records", Taken),
    ("max.request.size", As("message.max.bytes")),
    ("message.max.bytes", Pass),
    ("message.timeout.ms", Pass),
    ("metadata.max.age.ms", Pass),
    ("partition.assignment.strategy", Taken),
    ("plugin.library.paths", Refuse(CODE_HELP)),
    ("queue.buffering.max.kbytes", Pass),
    ("queue.buffering.max.messages", Pass),
    ("queue.buffering.max.ms", Pass),
    ("queued.max.messages.kbytes", Pass),
    ("queued.min.messages", Pass),
    ("receive.buffer.bytes", As("socket.receive.buffer.bytes")),
    ("reconnect.backoff.max.ms", Pass),
    ("reconnect.backoff.ms", Pass),
    ("request.timeout.ms", Pass),
    ("retries", Pass),
    ("retry.backoff.max.ms", Pass),
    ("retry.backoff.ms", Pass),
    ("sasl.client.callback.handler.class", Refuse(OAUTH_HELP)),
    ("sasl.jaas.config", Taken),
    ("sasl.kerberos.kinit.cmd", Refuse(CODE_HELP)),
    ("sasl.login.callback.handler.class", Refuse(OAUTH_HELP)),
    ("sasl.mechanism", Pass),
    ("sasl.mechanisms", As("sasl.mechanism")),
    ("sasl.oauthbearer.token.endpoint.url", Refuse(OAUTH_HELP)),
    ("sasl.password", Pass),
    ("sasl.username", Pass),
    ("security.protocol", Pass),
    ("send.buffer.bytes", As("socket.send.buffer.bytes")),
    ("session.timeout.ms", Taken),
    ("socket.connection.setup.timeout.ms", Pass),
    ("socket.keepalive.enable", Pass),
    ("socket.max.fails", Pass),
    ("socket.nagle.disable", Pass),
    ("socket.receive.buffer.bytes", Pass),
    ("socket.send.buffer.bytes", Pass),
    ("socket.timeout.ms", Pass),
    ("ssl.ca.location", Pass),
    ("ssl.ca.pem", Pass),
    ("ssl.certificate.location", Pass),
    ("ssl.certificate.pem", Pass),
    ("ssl.cipher.suites", Pass),
    ("ssl.endpoint.identification.algorithm", Pass),
    ("ssl.engine.location", Refuse(CODE_HELP)),
    ("ssl.key.location", Pass),
    ("ssl.key.password", Pass),
    ("ssl.key.pem", Pass),
    (
        "ssl.keystore.location",
        Refuse(
            "name the client certificate and its key as PEM files in 'properties.ssl.certificate.location' and 'properties.ssl.key.location'",
        ),
    ),
    ("ssl.keystore.password", Refuse("use 'properties.ssl.key.password' with a PEM key")),
    ("ssl.truststore.location", Refuse(PEM_HELP)),
    ("ssl.truststore.password", Refuse(PEM_HELP)),
    ("ssl.truststore.type", Refuse(PEM_HELP)),
    ("transaction.timeout.ms", Taken),
    ("value.deserializer", Taken),
    ("value.serializer", Taken),
];

/// Properties that only one side knows; librdkafka warns of the others.
const PRODUCER_ONLY: &[&str] = &[
    "acks",
    "batch.size",
    "compression.codec",
    "compression.level",
    "compression.type",
    "enable.idempotence",
    "linger.ms",
    "message.timeout.ms",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "request.timeout.ms",
    "retries",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
];
const CONSUMER_ONLY: &[&str] = &[
    "check.crcs",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "group.id",
    "isolation.level",
    "max.partition.fetch.bytes",
    "queued.max.messages.kbytes",
    "queued.min.messages",
];

/// For whom a configuration is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Consumer,
    Producer,
    Admin,
}

const PREFIX: &str = "properties.";

fn rule(name: &str) -> Option<Rule> {
    RULES.binary_search_by(|(known, _)| (*known).cmp(name)).ok().map(|index| RULES[index].1)
}

/// Findings about `properties.*`, in order of name.
pub fn check_properties(options: &Options) -> Vec<Diagnostic> {
    let mut findings = vec![];
    for (name, _) in options.with_prefix(PREFIX) {
        let option = format!("{PREFIX}{name}");
        let refused = |why: String| {
            Diagnostic::error(Code::REFUSED_OPTION, format!("client property \"{option}\" is not passed on"))
                .label_opt(options.key_span(&option), "refused")
                .help(why)
        };
        match rule(name) {
            Some(Refuse(why)) => findings.push(refused(why.to_string())),
            Some(_) => {}
            None => {
                let known = RULES.iter().filter(|(_, rule)| !matches!(rule, Refuse(_))).map(|(known, _)| *known);
                findings.push(refused(match thalweg_core::nearest(name, known) {
                    Some(near) => format!("did you mean \"{PREFIX}{near}\"?"),
                    None => "it is not on the list of properties that are known to be safe; remove it".to_string(),
                }));
            }
        }
    }
    findings.extend(check_security(options));
    findings
}

fn check_security(options: &Options) -> Vec<Diagnostic> {
    const PROTOCOL: &str = "properties.security.protocol";
    let mut findings = vec![];
    let protocol = options.get(PROTOCOL).unwrap_or("PLAINTEXT").to_uppercase();
    if !["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"].contains(&protocol.as_str()) {
        findings.push(
            options
                .bad_value(PROTOCOL, format!("option \"{PROTOCOL}\" cannot be \"{protocol}\""))
                .help("use one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        );
    } else if protocol != "PLAINTEXT" && !cfg!(feature = "kafka-tls") {
        findings.push(
            options
                .bad_value(PROTOCOL, format!("this binary is built without TLS and SASL for Kafka, which {protocol} needs"))
                .help("use the container image, or build with `cargo build --release --features kafka-tls`"),
        );
    }
    for name in ["properties.sasl.mechanism", "properties.sasl.mechanisms"] {
        if let Some(mechanism) = options.get(name)
            && !["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].contains(&mechanism)
        {
            findings.push(
                options
                    .bad_value(name, format!("SASL mechanism \"{mechanism}\" is not built in"))
                    .help("use one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
            );
        }
    }
    const JAAS: &str = "properties.sasl.jaas.config";
    if let Some(text) = options.get(JAAS)
        && let Err(expected) = parse_jaas(text)
    {
        findings.push(options.bad_value(JAAS, format!("option \"{JAAS}\" cannot be understood")).help(expected));
    }
    findings
}

/// The client configuration that the properties ask for. Call [`check_properties`] first; what it refuses is left out.
pub fn client_config(options: &Options, side: Side) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in options.with_prefix(PREFIX) {
        let target = match rule(name) {
            Some(Pass) => name,
            Some(As(target)) => target,
            Some(Taken | Refuse(_)) | None => continue,
        };
        let fits = match side {
            Side::Consumer => !PRODUCER_ONLY.contains(&target),
            Side::Producer => !CONSUMER_ONLY.contains(&target),
            Side::Admin => !CONSUMER_ONLY.contains(&target) && !PRODUCER_ONLY.contains(&target),
        };
        if fits {
            config.set(target, value);
        }
    }
    if let Some((username, password)) = options.get("properties.sasl.jaas.config").and_then(|text| parse_jaas(text).ok()) {
        config.set("sasl.username", username);
        config.set("sasl.password", password);
    }
    config
}

/// User name and password from the Java client's way to write them:
/// `org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="p";`.
/// The error says what would be right and never repeats the text.
fn parse_jaas(text: &str) -> Result<(String, String), String> {
    const EXPECTED: &str = "write `…PlainLoginModule required username=\"…\" password=\"…\";` (or ScramLoginModule), \
         or use 'properties.sasl.username' and 'properties.sasl.password'";
    let module = text.split_whitespace().next().unwrap_or_default();
    if !(module.ends_with(".PlainLoginModule") || module.ends_with(".ScramLoginModule")) {
        return Err(EXPECTED.to_string());
    }
    let value_of = |name: &str| -> Option<String> {
        let start = text.find(&format!("{name}="))? + name.len() + 1;
        let mut characters = text[start..].chars();
        let quote = characters.next().filter(|c| matches!(c, '"' | '\''))?;
        let mut value = String::new();
        loop {
            match characters.next()? {
                '\\' => value.push(characters.next()?),
                c if c == quote => return Some(value),
                c => value.push(c),
            }
        }
    };
    match (value_of("username"), value_of("password")) {
        (Some(username), Some(password)) => Ok((username, password)),
        _ => Err(EXPECTED.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        let mut options = Options::new();
        for (name, value) in pairs {
            options.insert(*name, *value);
        }
        options
    }

    fn check(pairs: &[(&str, &str)], expected: &[&str]) {
        let found: Vec<String> = check_properties(&options(pairs)).iter().map(Diagnostic::one_line).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn rules_are_in_order() {
        assert!(RULES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn hostile_and_unknown_properties_are_refused() {
        for name in ["plugin.library.paths", "ssl.engine.location", "sasl.kerberos.kinit.cmd"] {
            let name = format!("properties.{name}");
            let found = check_properties(&options(&[(&name, "/tmp/evil.so")]));
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].code, Code::REFUSED_OPTION);
        }
        check(
            &[("properties.fetch.min.byte", "1")],
            &[
                "error[TW0309]: client property \"properties.fetch.min.byte\" is not passed on (did you mean \"properties.fetch.min.bytes\"?)",
            ],
        );
        check(
            &[("properties.ssl.truststore.location", "/x.jks")],
            &[
                "error[TW0309]: client property \"properties.ssl.truststore.location\" is not passed on (Java key stores cannot be \
               read: export the certificates as PEM and name the file in 'properties.ssl.ca.location')",
            ],
        );
        check(&[("properties.bootstrap.servers", "a:1"), ("properties.group.id", "g")], &[]);
    }

    #[test]
    fn java_names_become_those_of_librdkafka() {
        let options = options(&[
            ("properties.bootstrap.servers", "a:1"),
            ("properties.fetch.max.wait.ms", "20"),
            ("properties.acks", "1"),
            ("properties.plugin.library.paths", "x"),
            ("properties.sasl.jaas.config", "o.a.k.scram.ScramLoginModule required username=\"u\" password='p\\'w';"),
        ]);
        let consumer = client_config(&options, Side::Consumer);
        assert_eq!(consumer.get("fetch.wait.max.ms"), Some("20"));
        assert_eq!(consumer.get("acks"), None);
        assert_eq!(consumer.get("plugin.library.paths"), None);
        assert_eq!(consumer.get("sasl.username"), Some("u"));
        assert_eq!(consumer.get("sasl.password"), Some("p'w"));
        assert_eq!(client_config(&options, Side::Producer).get("acks"), Some("1"));
    }

    #[test]
    fn a_password_is_never_repeated() {
        let found = check_properties(&options(&[("properties.sasl.jaas.config", "Krb5LoginModule password=\"canary\"")]));
        assert_eq!(found.len(), 1);
        assert!(!found[0].render().contains("canary"));
    }
}
