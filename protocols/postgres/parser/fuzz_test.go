package parser

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	pg_query "github.com/pganalyze/pg_query_go/v6"
)

// Bytes from a helper that was taken over are bytes of an attacker.
func FuzzFrame(f *testing.F) {
	f.Add([]byte{'O', 0, 0, 0, 1, 'x'})
	f.Add([]byte{'O', 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, payload, err := readFrame(bytes.NewReader(b), 1<<16)
		if err != nil {
			return
		}
		if again := appendFrame(nil, kind, payload); !bytes.Equal(again, b[:len(again)]) {
			t.Fatal("another frame was read")
		}
		_ = proto.Unmarshal(payload, new(pg_query.ParseResult))
		_ = sameTree(payload, payload)
	})
}
