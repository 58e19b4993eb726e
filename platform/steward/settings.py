"""Django's settings: the only file that decides how Steward is configured.

Guarantees: everything that differs between installations is read from the environment through `steward.environment`,
and the rest is the same everywhere; the defaults are safe on a laptop and behind a proxy alike (strict content policy,
no upload ever spooled to disk, sessions that end). Does not: start or contact anything. Reading the settings makes one
file, the secret key.

Example:
    STEWARD_HOME=/srv/steward STEWARD_HOSTS=steward.hospital.example STEWARD_TLS=1 python manage.py up
"""

from pathlib import Path
from typing import Any

from csp.constants import NONE, SELF

from steward import environment, secret_key

ROOT = Path(__file__).resolve().parents[2]

# --- where things are -------------------------------------------------------------------------------------------------
STEWARD_HOME = environment.folder("STEWARD_HOME", Path.home() / ".steward")
STEWARD_SECRETS = STEWARD_HOME / "secrets"
STEWARD_OBJECTS = STEWARD_HOME / "objects"
STEWARD_MODELS = STEWARD_HOME / "models"
STEWARD_RUNS = STEWARD_HOME / "runs"
# Where an operator lays base models that may be imported; nothing else of the disk can be named in a request.
STEWARD_INTAKE = environment.folder("STEWARD_INTAKE", STEWARD_HOME / "intake")
# The address of a model hub, e.g. https://huggingface.co. Empty: no hub is ever asked.
STEWARD_HUB = environment.text("STEWARD_HUB")
STEWARD_MODEL_GIB = environment.whole_number("STEWARD_MODEL_GIB", default=64, minimum=1, maximum=4096)
# A file, never a variable: an environment is readable to every process of the same user.
STEWARD_PASSPHRASE_FILE = environment.file("STEWARD_PASSPHRASE_FILE", STEWARD_SECRETS / "passphrase")
# The name under which the ledger signs; it is part of every checkpoint and must never change once entries exist.
LEDGER_ORIGIN = environment.text("STEWARD_LEDGER_ORIGIN", "steward.local/ledger")

# --- how it is reached ------------------------------------------------------------------------------------------------
DEBUG = environment.flag("STEWARD_DEBUG", default=False)
STEWARD_BIND = environment.text("STEWARD_BIND", "127.0.0.1")
STEWARD_PORT = environment.whole_number("STEWARD_PORT", default=8000, minimum=1, maximum=65535)
STEWARD_TLS = environment.flag("STEWARD_TLS", default=False)
STEWARD_HOSTS = environment.words("STEWARD_HOSTS")
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *STEWARD_HOSTS]
CSRF_TRUSTED_ORIGINS = [f"https://{host}" for host in STEWARD_HOSTS] if STEWARD_TLS else []
SECRET_KEY = secret_key.load_or_create(STEWARD_SECRETS / "django.key")
ROOT_URLCONF = "steward.urls"
WSGI_APPLICATION = "steward.wsgi.application"
ASGI_APPLICATION = "steward.asgi.application"

# --- parts ------------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "steward.console",  # before unfold, whose skeleton it replaces by one without inline code
    "unfold",  # before the admin, whose templates it replaces
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "procrastinate.contrib.django",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_filters",
    "django_htmx",
    "csp",
    "axes",
    "steward.audit",
    "steward.accounts",
    "steward.vault",
    "steward.catalog",
    "steward.profiles",
    "steward.datasets",
    "steward.runs",
    "steward.assurance",
    "steward.releases",
    "steward.web",
    "steward.api",
    "steward.openai_api",
    "steward.operations",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "steward.sessions.SessionLimits",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",  # last: it looks at what the others answered
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# --- database and queue -----------------------------------------------------------------------------------------------
STEWARD_DATABASE_URL = environment.text("DATABASE_URL")
STEWARD_POSTGRES = STEWARD_HOME / "postgres"


def _database() -> dict[str, Any]:
    """Return the server named by DATABASE_URL, or the embedded one under STEWARD_HOME."""
    if STEWARD_DATABASE_URL:
        return environment.database(STEWARD_DATABASE_URL)
    from steward import embedded

    # The supervisor's children log in with few rights (audit.database_roles); commands of an operator own the database.
    role = environment.text("STEWARD_DATABASE_ROLE")
    return embedded.django_settings(STEWARD_POSTGRES) | ({"USER": role} if role else {})


DATABASES = {"default": {**_database(), "CONN_HEALTH_CHECKS": True, "CONN_MAX_AGE": 60}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Jobs that run at the same time; long ones (a fine-tune) must leave room for short ones (an import).
STEWARD_WORKER_JOBS = environment.whole_number("STEWARD_WORKER_JOBS", default=4, minimum=1, maximum=64)
# --- devices: where fine-tunes run (local or ray), this machine's devices, and how many a Ray cluster lends -----------
STEWARD_LAUNCHER = environment.one_of("STEWARD_LAUNCHER", ("local", "ray"))
STEWARD_DEVICES = environment.words("STEWARD_DEVICES")
STEWARD_RAY_DEVICES = environment.whole_number("STEWARD_RAY_DEVICES", default=1, minimum=1, maximum=10_000)
STEWARD_RAY_ADDRESS = environment.text("STEWARD_RAY_ADDRESS")
STEWARD_RAY_GPUS = environment.whole_number("STEWARD_RAY_GPUS", default=1, minimum=0, maximum=64)
STEWARD_RAY_CPUS = environment.whole_number("STEWARD_RAY_CPUS", default=1, minimum=1, maximum=1024)
STEWARD_RAY_PORT = environment.whole_number("STEWARD_RAY_PORT", default=0, minimum=0, maximum=65535)
STEWARD_RAY_RING_PORT = environment.whole_number("STEWARD_RAY_RING_PORT", default=0, minimum=0, maximum=65535)
STEWARD_RAY_GATHER_SECONDS = environment.whole_number(
    "STEWARD_RAY_GATHER_SECONDS", default=120, minimum=1, maximum=86400
)
STEWARD_RAY_BEGIN_SECONDS = environment.whole_number(
    "STEWARD_RAY_BEGIN_SECONDS", default=86_400, minimum=1, maximum=31 * 86_400
)
STEWARD_RAY_MODELS = environment.text("STEWARD_RAY_MODELS")
# Answers that the OpenAI-compatible interface gives at the same time, each in one of the web server's threads: in all,
# and to one token; and requests of one token a minute.
STEWARD_ANSWERS_AT_ONCE = environment.whole_number("STEWARD_ANSWERS_AT_ONCE", default=16, minimum=1, maximum=512)
STEWARD_TOKEN_ANSWERS_AT_ONCE = environment.whole_number(
    "STEWARD_TOKEN_ANSWERS_AT_ONCE", default=8, minimum=1, maximum=512
)
STEWARD_TOKEN_REQUESTS_PER_MINUTE = environment.whole_number(
    "STEWARD_TOKEN_REQUESTS_PER_MINUTE", default=120, minimum=1, maximum=100_000
)
# A serving process that nobody asks ends, and gives its memory back.
STEWARD_SERVING_IDLE_SECONDS = environment.whole_number(
    "STEWARD_SERVING_IDLE_SECONDS", default=600, minimum=5, maximum=86_400
)
# What a training device draws and costs an hour; 0: unknown, and then no figure is shown.
STEWARD_DEVICE_WATTS = environment.whole_number("STEWARD_DEVICE_WATTS", default=0, minimum=0, maximum=100_000)
STEWARD_DEVICE_HOUR_PRICE = environment.number("STEWARD_DEVICE_HOUR_PRICE", default=0.0, minimum=0.0, maximum=1e6)
STEWARD_CURRENCY = environment.text("STEWARD_CURRENCY", "EUR")
PROCRASTINATE_AUTODISCOVER_MODULE_NAME = "jobs"

# --- people and sessions ----------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    # Source: NIST SP 800-63B-4, 3.1.1.2 (fifteen characters where the password stands alone)
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 15}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.ScryptPasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
LOGIN_URL = "/sign-in/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/sign-in/"
SESSION_IDLE_SECONDS = 15 * 60
SESSION_ABSOLUTE_SECONDS = 8 * 3600
SESSION_COOKIE_AGE = SESSION_ABSOLUTE_SECONDS
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = STEWARD_TLS
SESSION_COOKIE_NAME = "__Host-session" if STEWARD_TLS else "steward_session"
CSRF_COOKIE_SECURE = STEWARD_TLS
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_NAME = "__Host-csrf" if STEWARD_TLS else "steward_csrf"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_ENABLE_ADMIN = False
AXES_IPWARE_PROXY_COUNT = environment.whole_number("STEWARD_PROXIES", default=0, minimum=0, maximum=8)
AXES_LOCKOUT_TEMPLATE = "web/locked_out.html"
AXES_VERBOSE = False

# --- headers ----------------------------------------------------------------------------------------------------------
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_SSL_REDIRECT = STEWARD_TLS
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if STEWARD_TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = STEWARD_TLS
# Only a proxy that is known to be there may say that the outer connection was encrypted.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if STEWARD_TLS and AXES_IPWARE_PROXY_COUNT else None

# --- uploads ----------------------------------------------------------------------------------------------------------
# Django's default spools large uploads to the temporary folder as plaintext. Here a file is either small enough for
# memory or it is not taken; views that take large ones install a handler that encrypts while the bytes arrive.
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.MemoryFileUploadHandler"]
FILE_UPLOAD_MAX_MEMORY_SIZE = 1 << 20
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 << 20
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2000
FILE_UPLOAD_PERMISSIONS = 0o600

# --- interfaces -------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "steward.accounts.bearer.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["steward.api.parsers.BoundedJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_VERSIONING_CLASS": None,
    "EXCEPTION_HANDLER": "steward.api.problems.as_problem",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
KNOX_TOKEN_MODEL = "accounts.ApiToken"  # noqa: S105 - a model's name
MIGRATION_MODULES = {"knox": None}  # its one table is replaced by accounts.ApiToken
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer", "TOKEN_PREFIX": "stw_", "AUTO_REFRESH": False}
SPECTACULAR_SETTINGS = {
    "TITLE": "Steward",
    "DESCRIPTION": "Fine-tunes language models on data that may not leak, and proves afterwards what happened.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "DEFAULT_GENERATOR_CLASS": "steward.api.schema_generator.Generator",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "docExpansion": "list", "defaultModelsExpandDepth": 0},
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_NAME_OVERRIDES": {
        "VersionState": "steward.datasets.models.VersionState",
        "RunState": "steward.runs.models.RunState",
        "WorkState": "steward.assurance.models.EvaluationState",
        "GateState": "steward.assurance.models.GateState",
        "ReleaseState": "steward.releases.models.ReleaseState",
        "ProfileState": "steward.profiles.models.ProfileState",
        "EntryState": "steward.profiles.models.EntryState",
        "ListKind": "steward.profiles.models.ListKind",
        "PrivilegeKind": "steward.datasets.models.PrivilegeKind",
        "ProfileName": "steward.api.parameters.PROFILES",
        "EntityType": "steward.api.parameters.TYPES",
        "ImportKind": "steward.catalog.models.ImportKind",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "steward.api.schema.add_problems",
    ],
}
UNFOLD = {
    "SITE_TITLE": "Steward",
    "SITE_HEADER": "Steward",
    "SITE_URL": "/",
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_HISTORY": False,
}

# --- static files -----------------------------------------------------------------------------------------------------
STATIC_URL = "/static/"
# Served straight from the installed packages: nothing to collect, nothing to fetch.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG
STORAGES = {
    "default": {"BACKEND": "steward.vault.storage.VaultStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# --- language, time, logs ---------------------------------------------------------------------------------------------
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = ["steward.formats"]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "steward.logs.PayloadFreeFormatter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": environment.text("STEWARD_LOG_LEVEL", "INFO")},
    "loggers": {
        # Neither statements (they carry values) nor one line per request (paths carry ids).
        "django.db.backends": {"level": "ERROR"},
        "django.server": {"level": "WARNING"},
        "django": {"handlers": ["console"], "level": "WARNING", "propagate": False},
        "procrastinate": {"level": "WARNING"},
        "psycopg.pool": {"level": "ERROR"},  # it tries again by itself
        "axes": {"level": "WARNING"},
    },
}
