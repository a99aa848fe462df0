//go:build !race

package postgres_test

// slack is for what the runtime itself allocates now and then.
const slack = 0.5
