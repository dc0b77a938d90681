#pragma once

#include <cstdint>
#include <string>

namespace lamina {

enum class DeviceType : uint8_t { kCpu, kGpu };

struct Device {
  DeviceType type = DeviceType::kCpu;
  int index = 0;
  friend bool operator==(const Device&, const Device&) = default;
};
std::string to_string(const Device& d);

// A queue of work on a device. Index 0 is the device's default stream.
struct Stream {
  int index = 0;
  Device device;
  friend bool operator==(const Stream&, const Stream&) = default;
};
std::string to_string(const Stream& s);

// Defaults are per thread and start as the CPU and its stream 0.
Device default_device();
void set_default_device(Device d);
Stream default_stream(Device d);
void set_default_stream(Stream s);
Stream new_stream(Device d);
// The stream of that number; throws ValueError where none has been made.
Stream find_stream(Device d, int index);
// Number of devices of that type that this build and machine can use.
int device_count(DeviceType type);
// Waits until the stream's queue is empty; rethrows nothing: errors belong to the arrays.
void synchronize(Stream s);

}  // namespace lamina
