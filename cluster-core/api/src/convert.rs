//! Ids as words of the cluster ([`mizzen_types::ids`]) and as v1 messages.
//!
//! Both directions are `From`, by value and by reference:
//!
//! ```
//! use mizzen_api::v1;
//! use mizzen_types::ids::TaskId;
//!
//! let message = v1::TaskId::from(&TaskId::from("web.1"));
//! assert_eq!(TaskId::from(message).as_str(), "web.1");
//! ```

use crate::v1;
use mizzen_types::ids;

macro_rules! same_id {
    ($($name:ident { $($other:ident)? }),*) => {$(
        impl From<&ids::$name> for v1::$name {
            fn from(id: &ids::$name) -> Self {
                Self { value: id.as_str().to_owned() $(, $other: None)? }
            }
        }

        impl From<ids::$name> for v1::$name {
            fn from(id: ids::$name) -> Self {
                Self::from(&id)
            }
        }

        impl From<&v1::$name> for ids::$name {
            fn from(id: &v1::$name) -> Self {
                Self::new(id.value.as_str())
            }
        }

        impl From<v1::$name> for ids::$name {
            fn from(id: v1::$name) -> Self {
                Self::new(id.value)
            }
        }
    )*};
}

same_id!(FrameworkId {}, AgentId {}, TaskId {}, ExecutorId {}, ContainerId { parent }, OfferId {});
