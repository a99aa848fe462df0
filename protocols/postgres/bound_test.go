package postgres

import (
	"testing"

	"github.com/jackc/pgproto3/v2"
)

// An approver reads what a cursor was bound with; other values have another text.
func TestBoundText(t *testing.T) {
	text := func(formats []int16, vs ...[]byte) string {
		b, err := (&pgproto3.Bind{ParameterFormatCodes: formats, Parameters: vs}).Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		ps, err := bound(b[5:], []uint32{23})
		if err != nil {
			t.Fatal(err)
		}
		return boundText(ps)
	}
	want := "bound with\n$1, declared type 23: \"7\"\n$2, declared type 0: binary 00ff\n$3, declared type 0: NULL"
	if got := text([]int16{0, 1, 0}, []byte("7"), []byte{0, 255}, nil); got != want {
		t.Error(got)
	}
	if text(nil, []byte("7\"\n$2, declared type 0: \"8")) == text(nil, []byte("7"), []byte("8")) {
		t.Error("a value is taken for two")
	}
}
