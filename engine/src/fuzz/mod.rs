//! What must hold for every input of a parser, however hostile.
//!
//! A target takes any bytes and panics when a property does not hold. `mutate` runs each over its committed corpus
//! (`tests/vectors/corpus`) and seeded mutations of it, as part of `cargo test`; the programs in `engine/fuzz` run the
//! same targets under libFuzzer, which finds its way by coverage.

#[cfg(test)]
mod mutate;
mod packets;
mod proxies;
mod streams;

/// A name, which is also its folder of the corpus, and what must hold.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 13] = [
    ("stun", packets::stun),
    ("disco", packets::disco),
    ("wireguard", packets::wireguard),
    ("inner", packets::inner),
    ("fragments", packets::fragments),
    ("segments", packets::segments),
    ("derp", streams::derp),
    ("derp_login", streams::derp_login),
    ("derp_map", streams::derp_map),
    ("websocket", streams::websocket),
    ("upgrade", streams::upgrade),
    ("proxy", proxies::proxy),
    ("proxy_settings", proxies::proxy_settings),
];

/// Run the target of this name; panics when there is none, or when a property does not hold.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a name of `TARGETS`");
    target(data);
}
