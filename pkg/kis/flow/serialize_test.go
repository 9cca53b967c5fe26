package flow_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// own reads its rows itself, by a method on pointers; it takes texts only.
type own struct{ Length int }

func (*own) UnMarshal(rows []any, slice reflect.Type) (reflect.Value, error) {
	read := reflect.MakeSlice(slice, 0, len(rows))
	for _, row := range rows {
		text, ok := row.(string)
		if !ok {
			return reflect.Value{}, fmt.Errorf("%T is no text", row)
		}
		read = reflect.Append(read, reflect.ValueOf(own{len(text)}))
	}
	return read, nil
}

func (*own) Marshal(any) ([]any, error) { return nil, errors.New("not used") }

// half embeds the default and overrides half of it.
type half struct {
	kis.DefaultSerialize
	own
}

func (*half) UnMarshal(rows []any, slice reflect.Type) (reflect.Value, error) {
	return reflect.ValueOf(make([]half, len(rows))), nil
}

func (*half) Marshal(any) ([]any, error) { return nil, nil }

type plain struct {
	kis.DefaultSerialize
	ID int `json:"id"`
}

func TestSerializers(t *testing.T) {
	k := newKit(t)
	k.link("own", func(_ context.Context, f kis.Flow, rows []own, halves []half) error {
		k.seen = append(k.seen, fmt.Sprint(rows, len(halves)))
		return f.CommitRow(`{"id":7}`)
	})
	k.link("default", func(_ context.Context, _ kis.Flow, rows []*plain) error {
		k.seen = append(k.seen, fmt.Sprint(rows[0].ID))
		return nil
	})
	k.commit("four", 5, "sixsix")
	err := k.flow.Run(context.Background())
	if batch.CodeOf(err) != batch.CodeRowUndecodable || !strings.Contains(err.Error(), "row 1") || !strings.Contains(err.Error(), "int is no text") {
		t.Errorf("Run returned %v", err)
	}
	k.saw("[{4} {6}] 2", "7")
}

// coded is written and read as "code:" and its number, by methods on pointers; it reads nothing else.
type coded struct{ Number int }

func (*coded) UnMarshal(rows []any, slice reflect.Type) (reflect.Value, error) {
	read := reflect.MakeSlice(slice, len(rows), len(rows))
	for i, row := range rows {
		var c coded
		if _, err := fmt.Sscanf(fmt.Sprint(row), `"code:%d"`, &c.Number); err != nil {
			return reflect.Value{}, fmt.Errorf("%v is no code", row)
		}
		if into := read.Index(i); into.Kind() == reflect.Pointer {
			into.Set(reflect.ValueOf(&c))
		} else {
			into.Set(reflect.ValueOf(c))
		}
	}
	return read, nil
}

func (*coded) Marshal(value any) ([]any, error) {
	c, ok := value.(coded)
	if p, isPointer := value.(*coded); isPointer {
		c, ok = *p, true
	}
	if !ok || c.Number < 0 {
		return nil, fmt.Errorf("%v has no code", value)
	}
	return []any{fmt.Sprintf(`"code:%d"`, c.Number)}, nil
}

// What a row type with methods of its own writes is what another type reads, and what it reads itself again.
func TestSerializersWrite(t *testing.T) {
	k := newKit(t)
	k.link("make", func(_ context.Context, f kis.Flow, rows []*plain) error {
		for _, row := range rows {
			if err := f.CommitRow(&coded{row.ID}); err != nil {
				return err
			}
		}
		return nil
	})
	k.link("again", func(_ context.Context, f kis.Flow, codes []coded) error {
		k.seen = append(k.seen, fmt.Sprint(codes))
		return f.CommitRowBatch(codes)
	})
	k.link("texts", func(_ context.Context, _ kis.Flow, texts []string) error {
		k.seen = append(k.seen, fmt.Sprint(texts))
		return nil
	})
	k.commit(`{"id":4}`, `{"id":-1}`, `{"id":6}`)
	err := k.flow.Run(context.Background())
	if batch.CodeOf(err) != batch.CodeRowUndecodable || !strings.Contains(err.Error(), "row 1") || !strings.Contains(err.Error(), "has no code") {
		t.Errorf("Run returned %v", err)
	}
	k.saw("[{4} {6}]", "[code:4 code:6]")
}
