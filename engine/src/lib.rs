//! Warren's packet engine.
//!
//! Three rings: `wire`, `aead`, `tunnel`, `netstack`, `offload` and `path` are pure (no sockets, threads or clock; `now` is
//! passed in),
//! `driver`, `relay`, `tls` and `impair` own sockets and threads, `python` is the only part that names PyO3.

mod aead;
mod driver;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
#[cfg(target_os = "linux")]
mod impair;
mod kernel;
mod netstack;
#[cfg(test)]
mod noise;
mod offload;
pub mod path;
mod python;
pub mod relay;
mod span;
pub mod tls;
mod tunnel;
pub mod wire;
