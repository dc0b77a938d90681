#pragma once

#include <stdexcept>
#include <string>

namespace lamina {

// Base of everything the library throws. what() reads "[op] what was wanted, what came".
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
// A wrong value: shapes, axes, names, files' contents. ValueError in Python.
class ValueError : public Error {
 public:
  using Error::Error;
};
class ShapeError : public ValueError {
 public:
  using ValueError::ValueError;
};
class DtypeError : public ValueError {
 public:
  using ValueError::ValueError;
};
// An index outside its axis. IndexError in Python.
class IndexError : public Error {
 public:
  using Error::Error;
};
// A limit was reached or the system has no more. MemoryError in Python.
class OutOfMemory : public Error {
 public:
  using Error::Error;
};
// A file that cannot be opened, read or written. OSError in Python.
class IoError : public Error {
 public:
  using Error::Error;
};
// A matrix that has not what was asked for: singular, not positive definite, no convergence. RuntimeError in
// Python.
class LinalgError : public Error {
 public:
  using Error::Error;
};
// An operation that this backend or device has not. NotImplementedError in Python.
class Unsupported : public Error {
 public:
  using Error::Error;
};

}  // namespace lamina
