//! The exceptions that cross to Python: one for each kind of failure, under `EngineError`.

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(_engine, EngineError, PyException, "Base of what the engine raises.");
create_exception!(_engine, EngineClosed, EngineError, "The engine was closed.");
create_exception!(_engine, InvalidConfig, EngineError, "A value that the engine cannot use.");
create_exception!(_engine, AddressInUse, EngineError, "A listener for that port exists already.");

/// Add the exceptions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("EngineError", py.get_type::<EngineError>())?;
    module.add("EngineClosed", py.get_type::<EngineClosed>())?;
    module.add("InvalidConfig", py.get_type::<InvalidConfig>())?;
    module.add("AddressInUse", py.get_type::<AddressInUse>())
}
