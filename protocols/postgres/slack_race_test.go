//go:build race

package postgres_test

// slack: under the race detector pools lose what they are given.
const slack = 50
