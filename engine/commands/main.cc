#include "engine/commands/run.h"

int main(int argc, char** argv) {
  return godwit::commands::run({argv, argv + argc}, godwit::options::Environment::of_process());
}
