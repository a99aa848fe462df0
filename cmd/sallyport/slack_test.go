//go:build !race

package main

// slack: none. `make test` runs tests of allocations without -race too.
const slack = 0
