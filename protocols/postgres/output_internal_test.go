package postgres

import (
	"bytes"
	"encoding/binary"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// tokens is a layout of some columns as tokens.
func tokens(t testing.TB, width int, columns ...int) *layout {
	t.Helper()
	keys, err := mask.ParseKeys([]byte("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"))
	if err != nil {
		t.Fatal(err)
	}
	l := &layout{}
	for _, i := range columns {
		l.show(keys, &query.Output{Index: i, Type: "text", Mask: policy.Mask{Kind: "token"}, Column: "c"}, i%2 == 1)
	}
	l.number, l.width = 1, width
	return l
}

// dataRow encodes a row; nil is NULL.
func dataRow(values ...[]byte) []byte {
	b, at := begin(nil, 'D')
	b = binary.BigEndian.AppendUint16(b, uint16(len(values)))
	for _, v := range values {
		if v == nil {
			b = append(b, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	}
	return finish(b, at)
}

// through gives a row to the layout as it arrives, step bytes at a time.
func (l *layout) through(row []byte, step int) (out []byte, err error) {
	for have := min(step, len(row)); ; have = min(have+step, len(row)) {
		prefix, drop, err := l.prefix(row[:have], len(row))
		if err != nil {
			return nil, err
		}
		if prefix > have {
			if have == len(row) {
				return nil, errRowSize
			}
			continue
		}
		out = l.append(nil, row[:prefix], len(row), drop, new(outcome))
		return append(out, row[prefix+drop:]...), nil
	}
}

// FuzzOutputRow: whatever a server sends as a row, either it is refused or what
// goes out is that row with its masked columns masked, however it was cut.
func FuzzOutputRow(f *testing.F) {
	big := bytes.Repeat([]byte("x"), mask.MaxValue+1)
	f.Add(dataRow([]byte("a"), []byte("CANARY"), []byte("b"), []byte("SECRET"))[headLen:], 3)
	f.Add(dataRow(nil, nil, nil, nil)[headLen:], 1)
	f.Add(dataRow([]byte{}, []byte{}, []byte{}, []byte{})[headLen:], 2)
	f.Add(dataRow([]byte("a"), big, []byte("b"), big)[headLen:], 1000)
	f.Add([]byte("\x00\x04\x7f\xff\xff\xff"), 1)
	f.Add([]byte("\x00\x04\xff\xff\xff\xfe\x00\x00\x00\x00"), 1)
	f.Add([]byte(""), 1)
	l := tokens(f, 4, 1, 3)
	f.Fuzz(func(t *testing.T, body []byte, step int) {
		b, at := begin(nil, 'D')
		row := finish(append(b, body...), at)
		out, err := l.through(row, max(1, step))
		values, ok := taken(body)
		if !ok {
			// What comes behind the last masked column is not looked at.
			if err == nil && len(body) >= 2 && int(binary.BigEndian.Uint16(body)) != 4 {
				t.Fatalf("%q became %q", row, out)
			}
			return
		}
		if len(values) != 4 {
			if err == nil {
				t.Fatalf("%d columns went through", len(values))
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", row, err)
		}
		for _, i := range []int{1, 3} {
			if values[i] == nil {
				continue
			}
			if shown, ok := l.columns[i/2].masker.Append(nil, values[i], false); ok {
				values[i] = shown
			} else {
				values[i] = nil
			}
		}
		if want := dataRow(values...); !bytes.Equal(out, want) {
			t.Fatalf("%q became %q, want %q", row, out, want)
		}
	})
}

// taken takes a DataRow's body apart.
func taken(body []byte) (values [][]byte, ok bool) {
	m := cursor{b: body}
	for range m.int16() {
		n := m.int32()
		switch {
		case n == -1:
			values = append(values, nil)
		case n < 0:
			return nil, false
		default:
			values = append(values, append([]byte{}, m.take(int(n))...))
		}
		if m.bad {
			return nil, false
		}
	}
	return values, m.end()
}

// Masking a column costs no allocation.
func TestOutputAllocates(t *testing.T) {
	l := tokens(t, 3, 1)
	row := dataRow([]byte("some text"), []byte("123-45-6789"), []byte("more of it"))
	buf := make([]byte, 0, 1<<10)
	if n := testing.AllocsPerRun(100, func() {
		prefix, drop, err := l.prefix(row, len(row))
		if err != nil {
			t.Fatal(err)
		}
		l.append(buf, row[:prefix], len(row), drop, new(outcome))
	}); n > 0 {
		t.Errorf("%.1f allocations for a row", n)
	}
}

func BenchmarkOutputRow(b *testing.B) {
	for _, kind := range []string{"token", "format"} {
		l := tokens(b, 3, 1)
		l.begin()
		l.show(l.keys, &query.Output{Index: 1, Type: "text", Mask: policy.Mask{Kind: kind}, Column: "c"}, false)
		l.number, l.width = 1, 3
		row := dataRow([]byte("some text"), []byte("123-45-6789"), []byte("more of it"))
		buf := make([]byte, 0, 1<<10)
		b.Run(kind, func(b *testing.B) {
			b.SetBytes(int64(len(row)))
			for b.Loop() {
				prefix, drop, _ := l.prefix(row, len(row))
				l.append(buf, row[:prefix], len(row), drop, new(outcome))
			}
		})
	}
}
