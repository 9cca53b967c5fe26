package admin

import (
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestLetterContent looks for contents in one letter.
func TestLetterContent(t *testing.T) {
	t.Parallel()
	field := batch.NewKeyField("stu_id")
	key, err := field.HashValue([]byte("101"))
	if err != nil {
		t.Fatal(err)
	}
	l := &pb.DeadLetter{
		Row:    []byte(`{"stu_id":101,"score":5.50,"big":9007199254740993,"name":"007","pupil":{"home":[{"city":"Rome"},{"city":"Oslo"}]},"gone":null,"ok":true}`),
		Reason: "the score is late", ShardKey: "stu_id", Key: key,
	}
	f := func(name, value string) *pb.DeadFilter {
		return &pb.DeadFilter{Fields: []*pb.FieldValue{{Field: name, Value: value}}}
	}
	for _, c := range []struct {
		filter *pb.DeadFilter
		want   bool
	}{
		{&pb.DeadFilter{}, true},
		{&pb.DeadFilter{Text: "late"}, true},
		{&pb.DeadFilter{Text: "Oslo"}, true},
		{&pb.DeadFilter{Text: "oslo"}, false},
		{&pb.DeadFilter{Key: "101"}, true},
		{&pb.DeadFilter{Key: `"101"`}, false},
		{&pb.DeadFilter{Key: "102"}, false},
		{f("stu_id", "101"), true},
		{f("stu_id", "101.0"), true},
		{f("stu_id", `"101"`), false},
		{f("score", "5.5"), true},
		{f("big", "9007199254740993"), true},
		{f("big", "9007199254740992"), false},
		{f("name", "007"), true},
		{f("name", `"007"`), true},
		{f("name", "7"), false},
		{f("pupil.home.city", "Oslo"), true},
		{f("pupil.home.city", "Paris"), false},
		{f("pupil.home", "Oslo"), false},
		{f("pupil", "{}"), false},
		{f("gone", "null"), true},
		{f("ok", "true"), true},
		{f("ok", "false"), false},
		{f("none", "null"), false},
		{&pb.DeadFilter{Text: "late", Fields: []*pb.FieldValue{{Field: "ok", Value: "true"}, {Field: "name", Value: "x"}}}, false},
	} {
		content, err := contentOf(c.filter)
		if err != nil {
			t.Fatalf("%v: %v", c.filter, err)
		}
		if got := content.in(l); got != c.want {
			t.Errorf("%v selects the letter: %t", c.filter, got)
		}
	}
	hidden := &pb.DeadLetter{ShardKey: "stu_id", Row: []byte("no JSON")}
	for _, filter := range []*pb.DeadFilter{{Key: "101"}, f("stu_id", "101"), {Text: "101"}} {
		if content, err := contentOf(filter); err != nil || content.in(hidden) {
			t.Errorf("%v selects a letter without contents: %v", filter, err)
		}
	}
	for _, filter := range []*pb.DeadFilter{{Key: "{"}, {Key: "[1]"}, f("", "1")} {
		if _, err := contentOf(filter); err == nil {
			t.Errorf("%v is taken", filter)
		}
	}
}

// TestBatchAndPosition parses what callers name.
func TestBatchAndPosition(t *testing.T) {
	t.Parallel()
	id := "000102030405060708090a0b0c0d0e0f"
	for text, want := range map[string]uint64{id: 0, id + "-7": 7} {
		stream, sequence, err := parseBatch(text)
		if err != nil || stream == nil || stream.String() != id || sequence != want {
			t.Errorf("%s is %v-%d, %v", text, stream, sequence, err)
		}
	}
	for _, text := range []string{"1", id + "-", id + "-0", id + "-x", id + "0"} {
		_, _, err := parseBatch(text)
		wantCode(t, err, batch.CodeBadMessage, "")
	}
	for text, want := range map[string][2]string{"": {"", ""}, "12-0/F": {"F", "12-0"}, "12-0/a/b": {"a/b", "12-0"}} {
		flow, place, err := parsePosition(text)
		if err != nil || flow != want[0] || place != want[1] {
			t.Errorf("%q is %q, %q, %v", text, flow, place, err)
		}
	}
	for _, text := range []string{"F", "/F", "12-0/", "+/F"} {
		_, _, err := parsePosition(text)
		wantCode(t, err, batch.CodeBadMessage, "")
	}
}
