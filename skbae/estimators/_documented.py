"""The link from an estimator's HTML representation to its page in the documentation."""

from __future__ import annotations

from typing import ClassVar

from skbae import _version


class Documented:
    """Mixin that tells scikit-learn where an estimator of this package is documented.

    The page is ``api/generated/skbae.NAME.html`` below ``skbae._version.DOCUMENTATION``, which a
    build of the site may set while it runs; where it is empty there is no link.
    """

    _doc_link_module: ClassVar[str] = "skbae"

    @property
    def _doc_link_template(self) -> str:
        site = _version.DOCUMENTATION
        return f"{site}/api/generated/skbae.{{estimator_name}}.html" if site else ""

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        return {"estimator_name": type(self).__name__}
