package transcripts

import (
	"bytes"
	"fmt"
	"os"

	"filippo.io/age"
	"filippo.io/age/agessh"
)

// Identities reads a file with the secret keys of recipients: those of age, as
// age-keygen writes them, or an SSH key without a passphrase. Errors hold nothing of
// them.
func Identities(file string) ([]age.Identity, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("transcripts: identities: %w", err)
	}
	defer clear(b)
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN")) {
		id, err := agessh.ParseIdentity(b)
		if err != nil {
			return nil, fmt.Errorf("transcripts: identities %s: no SSH key that can be used (one with a passphrase can't)", file)
		}
		return []age.Identity{id}, nil
	}
	ids, err := age.ParseIdentities(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("transcripts: identities %s: want lines of AGE-SECRET-KEY-1..., or an SSH key", file)
	}
	return ids, nil
}
