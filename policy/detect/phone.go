package detect

import _ "embed"

// phones is a table of states of all telephone numbers there are, made from the
// patterns of github.com/nyaruka/phonenumbers by a test (phone_table_test.go),
// which also holds both to the same answers. The library itself parses strings
// into messages and keeps its tables on the heap, in every process that links it.
//
// It is little-endian uint16: for each calling code below 1000 its first state,
// 0 for none; then for each state from 0 what the ten digits lead to, and
// whether a number may end there. State 0 leads nowhere.
//
//go:embed phone.bin
var phones string

const (
	codes     = 1000
	stateSize = 11
)

func entry(i int) int { return int(phones[2*i]) | int(phones[2*i+1])<<8 }

// valid reports whether the digits behind a calling code are a number of it.
func valid(code int, national []byte) bool {
	state := entry(code)
	for _, d := range national {
		state = entry(codes + stateSize*state + int(d-'0'))
	}
	return entry(codes+stateSize*state+10) == 1
}

// dialled reports whether digits behind a '+' are a valid number. No calling
// code is the beginning of another.
func dialled(d []byte) bool {
	for n := 1; n <= 3 && n < len(d); n++ {
		if code := value(d[:n]); entry(code) != 0 {
			return valid(code, d[n:])
		}
	}
	return false
}

// american reports whether ten digits are a valid number of the North American
// plan.
func american(d []byte) bool { return len(d) == 10 && d[0] >= '2' && valid(1, d) }
