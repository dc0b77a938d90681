#pragma once

namespace lamina {

// The library's locks, outermost first: a thread that holds one takes only later ones.
enum class ForkRank { kRandom, kStreams, kPlans, kEvents, kThreads, kProfiles, kAllocator, kObjects, kCount };

struct ForkHandler {
  void (*lock)();
  void (*unlock)();
  // In the child, where only the forking thread lives on: repairs what the others have left, and unlocks.
  void (*renew)();
};

// Around every fork of the process from now on: all handlers lock, in the order of their ranks, so that the
// child finds nothing half done. One handler a rank. Returns 0, to be called at load time.
int at_fork(ForkRank rank, const ForkHandler& handler);

}  // namespace lamina
