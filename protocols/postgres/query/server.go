package query

// The majors of servers whose grammar agrees with the parser's (17) on all that
// is taken for understood. All of them are tested: make test-versions.
const (
	OldestServer = 13
	NewestServer = 18
)
