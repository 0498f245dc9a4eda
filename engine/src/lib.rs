//! Warren's packet engine.
//!
//! Three rings: `wire`, `tunnel`, `netstack` and `path` are pure (no sockets, threads or clock; `now` is passed in),
//! `driver`, `relay` and `tls` own sockets and threads, `python` is the only part that names PyO3.

mod driver;
mod netstack;
#[cfg(test)]
mod noise;
pub mod path;
mod python;
pub mod relay;
pub mod tls;
mod tunnel;
pub mod wire;
