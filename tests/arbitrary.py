"""Bodies of POST /jobs with every policy, for hypothesis to draw."""

from hypothesis import strategies as st

DESTINATIONS = "abcd"

BATCHES = st.lists(
    st.fixed_dictionaries(
        {
            "method": st.sampled_from(["get", "post", "put", "delete"]),
            "resource": st.just("/system/any"),
            "__request": st.fixed_dictionaries(
                {"destination": st.lists(st.sampled_from(DESTINATIONS), min_size=1, max_size=4, unique=True)}
            ),
        },
        optional={"code": st.just(200)},
    ),
    min_size=1,
    max_size=3,
)
RETRIES = st.fixed_dictionaries(
    {"attempts": st.integers(1, 3)},
    optional={
        "on": st.sampled_from([["timeout"], ["error"], ["timeout", "error"]]),
        "delay": st.sampled_from([0, 1, 30]),
        "factor": st.sampled_from([1, 3]),
        "maxDelay": st.sampled_from([2, 60]),
    },
)
ERRORS = st.sampled_from([0, 1, "0%", "25%"])
ABORTS = st.fixed_dictionaries({"errors": ERRORS}, optional={"after": st.integers(1, 4)})
WAVES = st.sampled_from([[1], [1, 3, "100%"], ["50%"], [2, "100%"], [1, 2, 3, 4]])
GATES = st.fixed_dictionaries(
    {},
    optional={
        "errors": ERRORS,
        "soak": st.sampled_from([0, 1, 20]),
        "onFail": st.sampled_from(["abort", "pause"]),
    },
)
#: What a job may have beside its batch.
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "timeout": st.sampled_from([2, 30, 300]),
        "requestTimeout": st.sampled_from([1, 10]),
        "deliveryTimeout": st.sampled_from([0, 3, 40, 600]),
        "concurrency": st.sampled_from([1, 2, "50%"]),
        "rate": st.sampled_from([0.2, 3, 200]),
        "idempotent": st.booleans(),
        "retry": RETRIES,
        "abort": ABORTS,
        "onFail": st.sampled_from(["continue", "stop"]),
        "waves": WAVES,
        "gate": GATES,
        "key": st.sampled_from(["k", "l"]),
    },
)
