"""Each variable is read, checked against its bounds, and named when it is wrong."""

import json
import os
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from puppetmaster import jsoncodec
from puppetmaster.errors import SettingsError
from puppetmaster.settings import LOG_LEVELS, Settings, name_in_file, variable
from tests import ROOT

#: The variables an operator may set: their knob, a value as text, the value it becomes.
VARIABLES = {
    "BROKER_PORT_1883_TCP_ADDR": ("broker_host", "10.0.0.1", "10.0.0.1"),
    "BROKER_PORT_1883_TCP_PORT": ("broker_port", "1884", 1884),
    "PUPPETMASTER_BROKER_USER": ("broker_user", "bundle", "bundle"),
    "PUPPETMASTER_BROKER_PASSWORD": ("broker_password", "open sesame", "open sesame"),
    "PUPPETMASTER_BROKER_CA": ("broker_ca", "/etc/pm/ca.pem", "/etc/pm/ca.pem"),
    "PUPPETMASTER_BROKER_CERT": ("broker_cert", "/etc/pm/mine.pem", "/etc/pm/mine.pem"),
    "PUPPETMASTER_BROKER_KEY": ("broker_key", "/etc/pm/mine.key", "/etc/pm/mine.key"),
    "PUPPETMASTER_BROKER_LIMIT_BYTES": ("broker_limit_bytes", "100000", 100000),
    "PUPPETMASTER_BROKER_PUSH": ("broker_push", "Off", "off"),
    "PUPPETMASTER_DATA_DIR": ("data_dir", "/var/lib/pm", Path("/var/lib/pm")),
    "PUPPETMASTER_STORE": ("store", "postgresql://h/db", "postgresql://h/db"),
    "PUPPETMASTER_STANDBY": ("standby", "OFF", "off"),
    "PUPPETMASTER_TTL_S": ("ttl_s", "3", 3),
    "PUPPETMASTER_ROLE": ("role", "API", "api"),
    "PUPPETMASTER_TOKENS": ("tokens", "/etc/pm/tokens", "/etc/pm/tokens"),
    "PUPPETMASTER_LOG_EVENTS": ("log_events", "On", "on"),
    "PUPPETMASTER_LOG_LEVEL": ("log_level", "debug", "debug"),
    "PUPPETMASTER_REQUEST_TIMEOUT_S": ("request_timeout_s", "2.5", 2.5),
    "PUPPETMASTER_LOCK_WAIT_S": ("lock_wait_s", "30", 30),
    "PUPPETMASTER_GRACE_S": ("grace_s", "0", 0),
    "PUPPETMASTER_BOOTING_S": ("booting_s", "30", 30),
    "PUPPETMASTER_REGISTERING_S": ("registering_s", "0", 0),
    "PUPPETMASTER_ROUTE": ("route", "auto", "auto"),
    "PUPPETMASTER_PRESENCE": ("presence", "/status/+", "/status/+"),
    "PUPPETMASTER_OFFLINE_CODES": ("offline_codes", "504, 599", "504, 599"),
    "PUPPETMASTER_MAX_IN_FLIGHT": ("max_in_flight", "7", 7),
    "PUPPETMASTER_MAX_IN_FLIGHT_PER_OWNER": ("max_in_flight_per_owner", "7", 7),
    "PUPPETMASTER_MAX_OPEN_JOBS": ("max_open_jobs", "3", 3),
    "PUPPETMASTER_MAX_OPEN_REQUESTS": ("max_open_requests", "7", 7),
    "PUPPETMASTER_KEEP_JOBS": ("keep_jobs", "0", 0),
    "PUPPETMASTER_KEEP_DAYS": ("keep_days", "0.5", 0.5),
    "PUPPETMASTER_KEEP_MB": ("keep_mb", "100", 100),
    "PUPPETMASTER_MAX_REQUESTS": ("max_requests", "8", 8),
    "PUPPETMASTER_PROBE_INTERVAL_S": ("probe_interval_s", "0.5", 0.5),
    "PUPPETMASTER_GATEWAY_CHECK_S": ("gateway_check_s", "0", 0),
    "PUPPETMASTER_LOCK_CACHE_S": ("lock_cache_s", "9", 9),
    "PUPPETMASTER_HTTP": ("http", "off", "off"),
    "PUPPETMASTER_HTTP_NAMES": ("http_names", "gateway.example", "gateway.example"),
    "PUPPETMASTER_TOKEN": ("token", "secret", "secret"),
    "PUPPETMASTER_WEBHOOKS": ("webhooks", "/etc/hooks", "/etc/hooks"),
    "PUPPETMASTER_TLS_CERT": ("tls_cert", "/etc/pm/cert.pem", "/etc/pm/cert.pem"),
    "PUPPETMASTER_TLS_KEY": ("tls_key", "/etc/pm/key.pem", "/etc/pm/key.pem"),
    "PUPPETMASTER_BODY_LIMIT_BYTES": ("body_limit_bytes", "2048", 2048),
    "PUPPETMASTER_HTTP_TIMEOUT_S": ("http_timeout_s", "2.5", 2.5),
    "PUPPETMASTER_HTTP_CONNECTIONS": ("http_connections", "5", 5),
}
#: The bounds of every number: both ends are allowed, what is beyond them is not. First those of whole ones.
WHOLE = {
    "BROKER_PORT_1883_TCP_PORT": (1, 65535),
    "PUPPETMASTER_BROKER_LIMIT_BYTES": (10_000, 1_048_576),
    "PUPPETMASTER_TTL_S": (0, 60),
    "PUPPETMASTER_MAX_IN_FLIGHT": (1, 10000),
    "PUPPETMASTER_MAX_IN_FLIGHT_PER_OWNER": (1, 10000),
    "PUPPETMASTER_MAX_OPEN_JOBS": (1, 1000000),
    "PUPPETMASTER_MAX_OPEN_REQUESTS": (1, 10000000),
    "PUPPETMASTER_KEEP_JOBS": (0, 10000000),
    "PUPPETMASTER_MAX_REQUESTS": (1, 1000000),
    "PUPPETMASTER_BODY_LIMIT_BYTES": (1024, 2**30),
    "PUPPETMASTER_HTTP_CONNECTIONS": (1, 100000),
}
BOUNDS = {
    **WHOLE,
    "PUPPETMASTER_REQUEST_TIMEOUT_S": (0.1, 2592000),
    "PUPPETMASTER_LOCK_WAIT_S": (1, 2592000),
    "PUPPETMASTER_GRACE_S": (0, 3600),
    "PUPPETMASTER_BOOTING_S": (0, 3600),
    "PUPPETMASTER_GATEWAY_CHECK_S": (0, 86400),
    "PUPPETMASTER_REGISTERING_S": (0, 3600),
    "PUPPETMASTER_KEEP_DAYS": (0, 36500),
    "PUPPETMASTER_KEEP_MB": (1, 1000000),
    "PUPPETMASTER_PROBE_INTERVAL_S": (0.1, 60),
    "PUPPETMASTER_LOCK_CACHE_S": (1, 86400),
    "PUPPETMASTER_HTTP_TIMEOUT_S": (0.1, 3600),
}

#: Variable of an earlier version, its name in the file -> the variable of today.
RENAMED = {("PUPPETMASTER_WINDOW", "window"): "PUPPETMASTER_MAX_IN_FLIGHT"}


def _read(name: str, text: str) -> Any:
    return getattr(Settings.from_environment({name: text}), VARIABLES[name][0])


def test_the_table_names_every_variable() -> None:
    assert {variable(knob): knob.name for knob in fields(Settings)} == {
        name: knob for name, (knob, _, _) in VARIABLES.items()
    }


def test_the_bounds_are_of_every_number() -> None:
    numbers = {variable(knob) for knob in fields(Settings) if isinstance(knob.default, (int, float))}
    assert numbers == set(BOUNDS)


def test_what_a_job_may_rely_on_when_nothing_is_set() -> None:
    settings = Settings.from_environment({})
    assert (settings.broker_host, settings.broker_port) == ("localhost", 1883)
    assert (settings.request_timeout_s, settings.max_in_flight, settings.max_requests) == (60, 500, 50_000)
    assert settings.data_dir == Path("data")


@pytest.mark.parametrize("name", VARIABLES)
def test_each_variable_sets_its_knob_and_no_other(name: str) -> None:
    knob, text, value = VARIABLES[name]
    settings = Settings.from_environment({name: f" {text}\n"})
    assert getattr(settings, knob) == value
    others = [other.name for other in fields(Settings) if other.name != knob]
    assert [getattr(settings, other) for other in others] == [getattr(Settings(), other) for other in others]


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_variable_is_as_none(name: str, text: str) -> None:
    assert Settings.from_environment({name: text}) == Settings()


@pytest.mark.parametrize("name", BOUNDS)
def test_both_bounds_are_allowed(name: str) -> None:
    low, high = BOUNDS[name]
    assert _read(name, str(low)) == low
    assert _read(name, str(high)) == high


@pytest.mark.parametrize("name", BOUNDS)
def test_beyond_a_bound_is_refused_by_name(name: str) -> None:
    low, high = BOUNDS[name]
    below, above = (low - 1, high + 1) if name in WHOLE else (low - 0.01, high + 0.5)
    with pytest.raises(SettingsError) as refused:
        _read(name, str(below))
    assert refused.value.message == f"{name}: expected at least {low}, got {below}."
    with pytest.raises(SettingsError) as refused:
        _read(name, str(above))
    assert refused.value.message == f"{name}: expected at most {high}, got {above}."


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("text", ["many", "1,5", "0x10", "nan", "inf", "1e999", "-inf", "1 2", "null"])
def test_what_is_no_finite_number_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: expected .*, got '?{text}'?\\.$"):
        _read(name, text)


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_number_has_no_fraction(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: expected a whole number, got '7.5'"):
        _read(name, "7.5")


@pytest.mark.parametrize(("text", "codes"), [("", set()), ("504", {504}), (" 599, 503 ,", {599, 503})])
def test_codes_of_gateways_that_are_offline(text: str, codes: set[int]) -> None:
    assert Settings.from_environment({"PUPPETMASTER_OFFLINE_CODES": text}).offline == codes


@pytest.mark.parametrize("text", ["200", "408", "offline", "504;503", "-504", "5040"])
def test_other_codes_do_not_say_so(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^PUPPETMASTER_OFFLINE_CODES: expected codes from 300 to 999"):
        Settings.from_environment({"PUPPETMASTER_OFFLINE_CODES": text})


@pytest.mark.parametrize("level", [*LOG_LEVELS, "INFO", "Debug"])
def test_a_log_level_in_any_letter_case(level: str, tmp_path: Path) -> None:
    assert _read("PUPPETMASTER_LOG_LEVEL", level) == level.lower()
    write(tmp_path, json.dumps({"logLevel": level}))
    assert Settings.from_environment({}, data_dir=tmp_path).log_level == level.lower()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("PUPPETMASTER_MAX_IN_FLIGHTS", r"did you mean PUPPETMASTER_MAX_IN_FLIGHT\?"),
        ("PUPPETMASTER_GRACE", r"did you mean PUPPETMASTER_GRACE_S\?"),
        ("PUPPETMASTER_HTTP_PORT", "did you mean PUPPETMASTER_HTTP"),
        ("PUPPETMASTER_ZZZ", "docs/settings.md and"),
        ("PUPPETMASTER_", "docs/settings.md and"),
    ],
)
def test_a_misspelt_variable_is_named(name: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}: unknown setting; .*{hint}"):
        Settings.from_environment({name: "7"})


@pytest.mark.parametrize(
    "name",
    [
        "PUPPETMASTER_URL",
        "PUPPETMASTER_PORT",
        "PUPPETMASTER_PORT_8700_TCP_ADDR",
        "PUPPETMASTER_SERVICE_HOST",
        "PUPPETMASTER_SERVICE_PORT_HTTP",
        "PUPPETMASTER_NAME",
        "PUPPETMASTER_ENV_PATH",
        "MY_PUPPETMASTER_MAX_IN_FLIGHTS",
    ],
)
def test_what_others_set_is_no_misspelt_variable(name: str) -> None:
    assert Settings.from_environment({name: "tcp://172.17.0.5:8700"}) == Settings()


@pytest.mark.parametrize("level", ["verbose", "INFORMATION", "10"])
def test_an_unknown_log_level_is_refused_by_name(level: str) -> None:
    with pytest.raises(SettingsError, match=r"^PUPPETMASTER_LOG_LEVEL: expected one of debug, .*, got '"):
        _read("PUPPETMASTER_LOG_LEVEL", level)


def test_the_environment_stands_before_the_defaults_of_a_caller() -> None:
    silent = Settings.from_environment({}, data_dir=Path("/bundle/data"))
    assert silent.data_dir == Path("/bundle/data")
    loud = Settings.from_environment({"PUPPETMASTER_DATA_DIR": "/elsewhere"}, data_dir=Path("/bundle/data"))
    assert loud.data_dir == Path("/elsewhere")


def test_the_process_environment_is_read_when_no_other_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUPPETMASTER_MAX_IN_FLIGHT", "3")
    assert Settings.from_environment().max_in_flight == 3


def test_public_shows_every_knob_but_secrets_as_json() -> None:
    public = Settings().public()
    assert len(public) == len(fields(Settings)) - 2 + len(RENAMED)
    assert {"token", "brokerPassword"}.isdisjoint(public)
    assert (public["dataDir"], public["maxInFlight"], public["bodyLimitBytes"]) == ("data", 500, 2**24)
    assert repr(public["requestTimeout"]) == "60"
    assert jsoncodec.decode(jsoncodec.encode(public)) == public


def test_a_whole_number_is_an_integer_wherever_it_comes_from() -> None:
    read = Settings.from_environment({"PUPPETMASTER_GRACE_S": "7.0"})
    for value in (read.grace_s, Settings(grace_s=7.0).grace_s, Settings().request_timeout_s):
        assert isinstance(value, int)
    assert Settings(grace_s=0.5).grace_s == 0.5


def test_a_secret_is_neither_shown_nor_printed() -> None:
    settings = Settings.from_environment({"PUPPETMASTER_TOKEN": "t0ps3cret"})
    assert settings.token == "t0ps3cret"
    assert "t0ps3cret" not in f"{settings!r} {settings} {settings.public()}"


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().max_in_flight = 1  # type: ignore[misc]


# The file


def write(directory: Path, text: str, name: str = "puppetmaster.json") -> Path:
    (directory / name).write_text(text)
    return directory


def test_a_file_says_what_the_environment_does_not(tmp_path: Path) -> None:
    write(tmp_path, '{"maxInFlight": 7, "keepDays": 0.5, "token": "t0ps3cret", "http": "off"}')
    found = Settings.from_environment({"PUPPETMASTER_MAX_IN_FLIGHT": "8"}, data_dir=tmp_path)
    assert (found.max_in_flight, found.keep_days, found.token, found.http) == (8, 0.5, "t0ps3cret", "off")
    assert found.data_dir == tmp_path


def test_it_is_looked_for_where_the_data_is(tmp_path: Path) -> None:
    write(tmp_path, '{"maxInFlight": 7}')
    found = Settings.from_environment({"PUPPETMASTER_DATA_DIR": str(tmp_path)}, data_dir=Path("/nowhere"))
    assert found.max_in_flight == 7


def test_a_file_may_be_named_and_is_read_in_place_of_both(tmp_path: Path) -> None:
    write(tmp_path, '{"maxInFlight": 7}')
    named = tmp_path / "etc.json"
    environ = {"PUPPETMASTER_SETTINGS": str(named)}
    with pytest.raises(SettingsError, match=r"etc\.json: expected JSON, and it cannot be read"):
        Settings.from_environment(environ, data_dir=tmp_path)
    write(tmp_path, '{"grace": 1}', named.name)
    found = Settings.from_environment(environ, data_dir=tmp_path)
    assert (found.max_in_flight, found.grace_s) == (500, 1)


@pytest.mark.parametrize(("old", "in_file", "variable"), [(*old, new) for old, new in RENAMED.items()])
def test_a_setting_is_taken_under_the_name_that_it_had(
    tmp_path: Path, old: str, in_file: str, variable: str
) -> None:
    name = VARIABLES[variable][0]

    def read(environ: dict[str, str], **in_file: int) -> Any:
        write(tmp_path, json.dumps(in_file))
        return getattr(Settings.from_environment(environ, data_dir=tmp_path), name)

    now = name_in_file(name)
    assert read({old: "7"}) == 7
    assert read({}, **{in_file: 7}) == 7
    assert read({old: "7"}, **{now: 8}) == 7, "the environment stands before the file"
    assert read({old: "7", variable: "9"}) == 9, "who has set both means the new one"
    assert [read({}, **dict(given)) for given in ([(now, 9), (in_file, 7)], [(in_file, 7), (now, 9)])] == [
        9,
        9,
    ]
    with pytest.raises(SettingsError, match=f"^{old}: expected at least 1, got 0"):
        read({old: "0"})
    with pytest.raises(SettingsError, match=f": {in_file}: expected at least 1, got 0"):
        read({}, **{in_file: 0})
    assert Settings().public()[in_file] == Settings().public()[now]


def test_the_factory_settings_count_until_there_is_a_file(tmp_path: Path) -> None:
    write(tmp_path, '{"maxInFlight": 7}', "puppetmaster.json.factory")
    assert Settings.from_environment({}, data_dir=tmp_path).max_in_flight == 7
    write(tmp_path, "{}")
    assert Settings.from_environment({}, data_dir=tmp_path).max_in_flight == 500


def test_the_factory_settings_are_the_defaults() -> None:
    shipped = ROOT / "data"
    assert Settings.from_environment({}, data_dir=shipped) == Settings(data_dir=shipped)
    named = json.loads((shipped / "puppetmaster.json.factory").read_text())
    assert not {in_file for _, in_file in RENAMED} & set(named)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected JSON"),
        ("{", "expected JSON"),
        ("[]", "expected an object"),
        ('{"maxInFlights": 1}', r"unknown setting 'maxInFlights'; did you mean 'maxInFlight'\?"),
        ('{"zzz": 1}', "unknown setting 'zzz'; known are brokerHost, "),
        ('{"dataDir": "/x"}', "unknown setting 'dataDir'"),
        ('{"maxInFlight": "7"}', 'maxInFlight: expected a whole number, got "7"'),
        ('{"maxInFlight": 7.5}', "maxInFlight: expected a whole number, got 7.5"),
        ('{"maxInFlight": true}', "maxInFlight: expected a whole number, got true"),
        ('{"maxInFlight": 1e999}', "maxInFlight: expected a whole number, got Infinity"),
        ('{"maxInFlight": 0}', "maxInFlight: expected at least 1, got 0"),
        ('{"keepDays": null}', "keepDays: expected a number, got null"),
        ('{"keepDays": NaN}', "keepDays: expected at least 0, got NaN"),
        (f'{{"keepDays": 1{"0" * 400}}}', "keepDays: expected at most 36500, got 10{79}\\.$"),
        (f'{{"keepJobs": 1{"0" * 400}}}', "keepJobs: expected at most 10000000, got 10{79}\\.$"),
        ("[" * 100_000, "expected JSON, and it cannot be read as such: maximum recursion depth"),
        ('{"brokerCa": "ca\\u0000.pem"}', r"brokerCa: expected text in UTF-8 without NUL, got '\\x00' in it"),
        ('{"brokerPassword": "\\ud800"}', r"expected text in UTF-8 without NUL, got '\\ud800' in it"),
        ('{"\\ud800\\n": 1}', r"unknown setting '\\ud800\\n'"),
        ('{"http": 8700}', "http: expected a text, got 8700"),
        ('{"logLevel": "loud"}', "PUPPETMASTER_LOG_LEVEL: expected one of"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)
    with pytest.raises(SettingsError, match=said) as refused:
        Settings.from_environment({}, data_dir=tmp_path)
    assert "logLevel" in text or str(tmp_path) in refused.value.message


@pytest.mark.parametrize("name", ["BROKER_PASSWORD", "STORE", "TOKENS", "LOG_LEVEL"])
def test_bytes_that_are_no_utf_8_are_refused_by_name(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"_{name}: expected text in UTF-8 without NUL, got '\\udce9'"):
        Settings.from_environment({f"PUPPETMASTER_{name}": os.fsdecode(b"caf\xe9")})


@pytest.mark.parametrize("host", ["", "broker..example", ".example", "a" * 64, "a" * 300])
def test_no_broker_has_such_a_name(host: str, tmp_path: Path) -> None:
    write(tmp_path, json.dumps({"brokerHost": host}))
    with pytest.raises(SettingsError, match="_TCP_ADDR: expected a name or an address") as refused:
        Settings.from_environment({}, data_dir=tmp_path)
    assert len(refused.value.message) < 250


@pytest.mark.parametrize("host", ["::1", "fe80::1%eth0", "b\u00fccher.example", "host.example.", "my_broker"])
def test_a_broker_may_have_such_a_name(host: str) -> None:
    assert Settings.from_environment({"BROKER_PORT_1883_TCP_ADDR": host}).broker_host == host


@pytest.mark.parametrize(
    "name", ["KEEP_JOBS", "KEEP_DAYS", "LOG_LEVEL", "PRESENCE", "OFFLINE_CODES", "NO_SETTING" + "_" * 999]
)
@pytest.mark.parametrize("text", ["1" * 4000, "1" * 5000, "x" * 100_000])
def test_a_long_value_is_shown_by_its_beginning(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({f"PUPPETMASTER_{name}": text})
    assert len(refused.value.message) < 300


def test_a_data_directory_that_cannot_be_looked_at_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^PUPPETMASTER_DATA_DIR: .* File name too long"):
        Settings.from_environment({"PUPPETMASTER_DATA_DIR": "/tmp/" + "x" * 5000})
