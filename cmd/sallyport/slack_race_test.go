//go:build race

package main

// slack: under the race detector pools lose what they are given.
const slack = 10
