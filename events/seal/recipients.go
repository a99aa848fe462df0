package seal

import (
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
)

// ParseRecipients reads who can read transcripts, one a line: age1..., ssh-ed25519 and
// ssh-rsa; # begins a remark. One is there at least.
func ParseRecipients(b []byte) ([]age.Recipient, error) {
	var out []age.Recipient
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		var r age.Recipient
		var err error
		if r, err = age.ParseX25519Recipient(line); err != nil {
			r, err = agessh.ParseRecipient(line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: no recipient: want age1..., ssh-ed25519 or ssh-rsa", n)
		}
		out = append(out, r)
	}
	if len(out) == 0 {
		return nil, errors.New("it lists nobody")
	}
	return out, nil
}
