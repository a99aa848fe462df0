package postgres

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"unsafe"

	"github.com/xdg-go/stringprep"
)

// SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677; protocol
// documentation 55.3.1).
const (
	scramPlain = "SCRAM-SHA-256"
	scramPlus  = "SCRAM-SHA-256-PLUS"
)

// Limits of a challenge. Fewer iterations than RFC 7677 asks for would make the
// password cheap to guess for who made the challenge, more than the most would
// keep a processor busy.
const (
	minIterations = 4096
	maxIterations = 10_000_000
	maxSalt       = 1 << 10
)

// errServerProof: whoever answers does not know the password's verifier.
var errServerProof = errors.New("postgres: the server did not prove that it knows the account's password")

// scramClient is the client's side of one exchange.
type scramClient struct {
	gs2     string // header: whether the exchange is bound to the channel
	binding []byte // channel binding data, nil for none
	nonce   string
	first   string // client-first-message-bare
	sign    [sha256.Size]byte
}

// newScram begins an exchange. gs2 is "p=tls-server-end-point,,", "y,," or
// "n,,".
func newScram(gs2 string, binding []byte) *scramClient {
	nonce := make([]byte, 18)
	_, _ = rand.Read(nonce) // never fails
	s := &scramClient{gs2: gs2, binding: binding, nonce: base64.StdEncoding.EncodeToString(nonce)}
	s.first = "n=,r=" + s.nonce // the server takes the user of the StartupMessage
	return s
}

// initial returns the client-first-message.
func (s *scramClient) initial() []byte { return []byte(s.gs2 + s.first) }

// final answers a server-first-message with the client-final-message.
func (s *scramClient) final(challenge, password []byte) ([]byte, error) {
	nonce, salt, iterations, err := readChallenge(challenge)
	if err != nil {
		return nil, err
	}
	if len(nonce) <= len(s.nonce) || !bytes.HasPrefix(nonce, []byte(s.nonce)) {
		return nil, errors.New("postgres: the server's SCRAM nonce is not for this exchange")
	}
	prepared, wipe := prepare(password)
	defer wipe()
	// The key function takes a string; it keeps none.
	salted, err := pbkdf2.Key(sha256.New, unsafe.String(unsafe.SliceData(prepared), len(prepared)), salt, iterations, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("postgres: SCRAM: %w", err)
	}
	defer clear(salted)
	without := "c=" + base64.StdEncoding.EncodeToString(append([]byte(s.gs2), s.binding...)) + ",r=" + string(nonce)
	message := []byte(s.first + "," + string(challenge) + "," + without)
	clientKey := mac(salted, []byte("Client Key"))
	defer clear(clientKey)
	stored := sha256.Sum256(clientKey)
	proof := mac(stored[:], message)
	subtle.XORBytes(proof, proof, clientKey)
	serverKey := mac(salted, []byte("Server Key"))
	defer clear(serverKey)
	s.sign = [sha256.Size]byte(mac(serverKey, message))
	return []byte(without + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

// verify holds a server-final-message against what only a server can say that
// has the password's verifier.
func (s *scramClient) verify(final []byte) error {
	v, ok := bytes.CutPrefix(final, []byte("v="))
	sign, err := base64.StdEncoding.DecodeString(string(v))
	if !ok || err != nil || !hmac.Equal(sign, s.sign[:]) {
		return errServerProof
	}
	return nil
}

// readChallenge reads "r=NONCE,s=SALT,i=ITERATIONS" (RFC 5802, 7).
func readChallenge(b []byte) (nonce, salt []byte, iterations int, err error) {
	bad := errors.New("postgres: the server's SCRAM challenge is not understood")
	parts := bytes.Split(b, []byte(","))
	if len(parts) != 3 {
		return nil, nil, 0, bad
	}
	for i, prefix := range []string{"r=", "s=", "i="} {
		var ok bool
		if parts[i], ok = bytes.CutPrefix(parts[i], []byte(prefix)); !ok || len(parts[i]) == 0 {
			return nil, nil, 0, bad
		}
	}
	nonce = parts[0]
	for _, c := range nonce {
		if c < 0x21 || c > 0x7e {
			return nil, nil, 0, bad
		}
	}
	salt, err = base64.StdEncoding.DecodeString(string(parts[1]))
	if err != nil || len(salt) == 0 || len(salt) > maxSalt {
		return nil, nil, 0, bad
	}
	iterations, err = strconv.Atoi(string(parts[2]))
	if err != nil || iterations < minIterations || iterations > maxIterations {
		return nil, nil, 0, fmt.Errorf("postgres: the server's SCRAM challenge asks for an iteration count outside of %d to %d", minIterations, maxIterations)
	}
	return nonce, salt, iterations, nil
}

// prepare is SASLprep (RFC 4013), where it alters anything. As the server does
// it, what can't be prepared is taken as it is. wipe overwrites what was made.
func prepare(password []byte) (prepared []byte, wipe func()) {
	ascii := true
	for _, c := range password {
		ascii = ascii && c >= 0x20 && c < 0x7f
	}
	if ascii {
		return password, func() {}
	}
	s, err := stringprep.SASLprep.Prepare(string(password))
	if err != nil {
		return password, func() {}
	}
	prepared = []byte(s)
	return prepared, func() { clear(prepared) }
}

func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}
