//! The Python face of the engine: convert, call, convert back.

mod engine;
mod errors;
mod events;
#[cfg(target_os = "linux")]
mod impair;
mod relay;

use pyo3::prelude::*;

/// The packet engine, as `warren._engine`.
#[pymodule]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    errors::register(module)?;
    engine::register(module)?;
    events::register(module)?;
    #[cfg(target_os = "linux")] // elsewhere there are no TUN devices of this kind
    impair::register(module)?;
    relay::register(module)
}
