"""Dtypes, their promotion and limits, and what the namespace says about itself."""

from __future__ import annotations

from typing import Any, TypedDict

import lamina.core as mx
from lamina.array_api._common import INDEX, Array, Device, check_device

Capabilities = TypedDict(
    "Capabilities", {"boolean indexing": bool, "data-dependent shapes": bool, "max dimensions": int | None}
)

# The dtypes of the standard that there are: complex128 is not.
STANDARD = (
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
    "complex64",
)


def astype(x: Array, dtype: mx.Dtype, /, *, copy: bool = True, device: Device | None = None) -> Array:
    """Convert to another dtype.

    Parameters
    ----------
    x : array
        The array.
    dtype : Dtype
        Dtype of the result.
    copy : bool
        Without effect: whether memory is shared cannot be seen.
    device : Device, optional
        Where to put the result.

    Returns
    -------
    array
        The converted array.

    Raises
    ------
    TypeError
        From complex to real numbers.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.astype(xp.asarray([1.5, -1.5]), xp.int32)
    array([1, -1], dtype=int32)
    """
    check_device("astype", device)
    if x.dtype == mx.complex64 and dtype != mx.complex64:
        raise TypeError(f"astype: complex numbers have no {dtype} value; take real(x) or abs(x)")
    return mx.astype(x, dtype)


def result_type(*arrays_and_dtypes: Any) -> mx.Dtype:
    """Tell the dtype that arrays, dtypes and Python numbers promote to.

    Parameters
    ----------
    *arrays_and_dtypes : array, Dtype, bool, int, float or complex
        At least one array or dtype.

    Returns
    -------
    Dtype
        The dtype.

    Raises
    ------
    ValueError
        There is no array and no dtype.
    TypeError
        An argument is of another type.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.result_type(xp.int8, xp.uint8, 1)
    lamina.core.int16
    """
    numbers = [v for v in arrays_and_dtypes if isinstance(v, bool | int | float | complex)]
    others = [v for v in arrays_and_dtypes if not isinstance(v, bool | int | float | complex)]
    if not others:
        raise ValueError("result_type: wants at least one array or dtype")
    dtype = mx.result_type(*others)
    for value in numbers:
        dtype = (mx.zeros((), dtype) + (type(value)(0))).dtype
    return dtype


def can_cast(from_: mx.Dtype | Array, to: mx.Dtype, /) -> bool:
    """Tell whether promotion may take one dtype to the other.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.can_cast(xp.int8, xp.int32), xp.can_cast(xp.int32, xp.int8)
    (True, False)
    """
    return mx.result_type(from_, to) == to


def isdtype(dtype: mx.Dtype, kind: mx.Dtype | str | tuple[mx.Dtype | str, ...]) -> bool:
    """Tell whether a dtype is of a kind.

    Parameters
    ----------
    dtype : Dtype
        The dtype.
    kind : Dtype, str or tuple of them
        A dtype, or "bool", "signed integer", "unsigned integer", "integral", "real floating", "complex
        floating" or "numeric".

    Returns
    -------
    bool
        Whether it is one of them.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.isdtype(xp.float32, "numeric")
    True
    """
    return mx.isdtype(dtype, kind)


def finfo(type: mx.Dtype | Array, /) -> mx.finfo:
    """Tell the limits of a floating dtype, or of an array's.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.finfo(xp.float32).bits
    32
    """
    return mx.finfo(type.dtype if isinstance(type, mx.array) else type)


def iinfo(type: mx.Dtype | Array, /) -> mx.iinfo:
    """Tell the limits of an integer dtype, or of an array's.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.iinfo(xp.int16).max
    32767
    """
    return mx.iinfo(type.dtype if isinstance(type, mx.array) else type)


class Info:
    """What the namespace can do: devices, dtypes and capabilities."""

    def capabilities(self) -> Capabilities:
        """Tell what is supported beyond the standard's minimum.

        Returns
        -------
        dict
            Reading through boolean masks, shapes that depend on values (both evaluate), and the most axes.
        """
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": None}

    def default_device(self) -> mx.Device:
        """Tell the device of new arrays.

        Returns
        -------
        Device
            The device.
        """
        return mx.default_device()

    def devices(self) -> list[mx.Device]:
        """List the devices that can be used.

        Returns
        -------
        list of Device
            The devices.
        """
        kinds = (mx.cpu, mx.gpu)
        return [mx.Device(kind, i) for kind in kinds for i in range(mx.device_count(kind))]

    def default_dtypes(self, *, device: Device | None = None) -> dict[str, mx.Dtype]:
        """Tell the dtypes that functions choose by themselves.

        Parameters
        ----------
        device : Device, optional
            A device.

        Returns
        -------
        dict
            By "real floating", "complex floating", "integral" and "indexing".
        """
        check_device("default_dtypes", device)
        return {
            "real floating": mx.float32,
            "complex floating": mx.complex64,
            "integral": mx.int32,
            "indexing": INDEX,
        }

    def dtypes(
        self, *, device: Device | None = None, kind: str | tuple[str, ...] | None = None
    ) -> dict[str, mx.Dtype]:
        """List the standard's dtypes that a device supports.

        Parameters
        ----------
        device : Device, optional
            A device.
        kind : str or tuple of str, optional
            As for :func:`isdtype`; all kinds by default.

        Returns
        -------
        dict
            Dtypes by name.
        """
        check_device("dtypes", device)
        every: dict[str, mx.Dtype] = {"bool": mx.bool_, **{name: getattr(mx, name) for name in STANDARD}}
        return {name: t for name, t in every.items() if kind is None or mx.isdtype(t, kind)}


def __array_namespace_info__() -> Info:  # noqa: N807 - the name is the standard's
    """Tell what the namespace can do.

    Returns
    -------
    Info
        An object with the methods of the standard.

    Examples
    --------
    >>> from lamina import array_api as xp
    >>> xp.__array_namespace_info__().default_dtypes()["integral"]
    lamina.core.int32
    """
    return Info()
