package events

import (
	"bytes"
	"encoding/hex"
	"fmt"
)

// Bounds of a secret key, in bytes.
const (
	minKey = 32
	maxKey = 64
)

// ParseKey reads a key file: 64 to 128 hexadecimal digits, and white space around
// them. It clears b. what is the key's name in errors, which hold nothing of it.
func ParseKey(what string, b []byte) ([]byte, error) {
	defer clear(b)
	digits := bytes.Trim(b, " \t\r\n")
	bad := fmt.Errorf("a %s key is %d to %d hexadecimal digits: make one with openssl rand -hex %d", what, 2*minKey, 2*maxKey, minKey)
	if n := len(digits); n < 2*minKey || n > 2*maxKey || n%2 != 0 {
		return nil, bad
	}
	key := make([]byte, len(digits)/2)
	if _, err := hex.Decode(key, digits); err != nil {
		clear(key)
		return nil, bad // the error quotes the key
	}
	seen := map[byte]bool{}
	for _, c := range key {
		seen[c] = true
	}
	if len(seen) < 8 { // of 32 random bytes, about 30 differ
		clear(key)
		return nil, fmt.Errorf("the %s key is not random: make one with openssl rand -hex %d", what, minKey)
	}
	return key, nil
}
