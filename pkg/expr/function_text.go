package expr

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf8"
)

// textFunctions are the functions of text.
var textFunctions = []*function{
	{
		signature: "len(x: string|list|object) -> int", example: `[len("学生"), len([1, 2]), len({a: 1})]`, result: "[2,2,1]", run: runLen,
		about: "Gives the number of characters of a text, of elements of a list, or of fields of an object.",
	},
	{
		signature: "upper(text: string) -> string", example: `upper("Ärger")`, result: `"ÄRGER"`, run: runUpper,
		about: "Gives the text in upper case.",
	},
	{
		signature: "lower(text: string) -> string", example: `lower("ABC")`, result: `"abc"`, run: runLower,
		about: "Gives the text in lower case.",
	},
	{
		signature: "trim(text: string, characters?: string) -> string", example: `[trim("  a "), trim("--a-", "-")]`, result: `["a","a"]`, run: runTrim,
		about: "Takes white space, or any of the given characters, away from both ends.",
	},
	{
		signature: "trim_prefix(text: string, prefix: string) -> string", example: `trim_prefix("id-7", "id-")`, result: `"7"`, run: runTrimPrefix,
		about: "Takes a beginning away, if the text has it.",
	},
	{
		signature: "trim_suffix(text: string, suffix: string) -> string", example: `trim_suffix("a.csv", ".csv")`, result: `"a"`, run: runTrimSuffix,
		about: "Takes an ending away, if the text has it.",
	},
	{
		signature: "starts_with(text: string, prefix: string) -> bool", example: `starts_with("score", "sc")`, result: "true", run: runStartsWith,
		about: "Gives whether the text begins so.",
	},
	{
		signature: "ends_with(text: string, suffix: string) -> bool", example: `ends_with("a.csv", ".csv")`, result: "true", run: runEndsWith,
		about: "Gives whether the text ends so.",
	},
	{
		signature: "contains(in: string|list, part: any) -> bool", example: `[contains("score", "or"), contains([1, 2], 2)]`, result: "[true,true]", run: runContains,
		about: "Gives whether a text has a part, or a list an element.", prepare: prepareContains,
	},
	{
		signature: "index_of(text: string, part: string) -> int?", example: `index_of("a=b", "=") ?? -1`, result: "1", run: runIndexOf,
		about: "Gives how many characters are before the first occurrence of a part; missing if there is none.",
	},
	{
		signature: "substring(text: string, from: int, to?: int) -> string", example: `[substring("students", 0, 3), substring("students", 6)]`, result: `["stu","ts"]`, run: runSubstring,
		about: "Gives the characters from one position up to another, which is not included. Positions count from 0; those beyond the end count as the end.",
	},
	{
		signature: "replace(text: string, old: string, new: string) -> string", example: `replace("a-b-c", "-", "/")`, result: `"a/b/c"`, run: runReplace,
		about: "Replaces each occurrence of a part. Nothing is replaced if old is empty.",
	},
	{
		signature: "split(text: string, separator: string) -> [string]", example: `split("a,b,,c", ",")`, result: `["a","b","","c"]`, run: runSplit,
		about: "Gives the parts between separators. An empty separator gives the characters.",
	},
	{
		signature: "join(list: list, separator: string) -> string", example: `join(["a", "b"], "-")`, result: `"a-b"`, run: runJoin,
		about: "Puts texts behind one another, with a separator between them. Elements that are no texts fail: write map(list, x => string(x)).",
	},
	{
		signature: "repeat(text: string, times: int) -> string", example: `repeat("*", 4)`, result: `"****"`, run: runRepeat,
		about: "Gives the text several times. A number below zero fails.",
	},
	{
		signature: "pad_left(text: string, width: int, fill?: string) -> string", example: `pad_left("7", 3, "0")`, result: `"007"`, run: runPadLeft,
		about: "Puts spaces, or another character, before the text until it has so many characters.",
	},
	{
		signature: "pad_right(text: string, width: int, fill?: string) -> string", example: `pad_right("ab", 4, ".")`, result: `"ab.."`, run: runPadRight,
		about: "Puts spaces, or another character, behind the text until it has so many characters.",
	},
	{
		signature: "reverse(x: string|list) -> string or list", gives: sameAs, example: `[reverse("abc"), join(reverse(["a", "b"]), "")]`, result: `["cba","ba"]`, run: runReverse,
		about: "Gives the characters of a text, or the elements of a list, in the other direction.",
	},
	{
		signature: "sha256(text: string) -> string", example: `substring(sha256("a"), 0, 8)`, result: `"ca978112"`, run: runSHA256,
		about: "Gives the SHA-256 hash of the text, as 64 hexadecimal digits.",
	},
	{
		signature: "base64(text: string) -> string", example: `base64("hi?")`, result: `"aGk/"`, run: runBase64,
		about: "Gives the bytes of the text in base 64, with the standard letters and padding.",
	},
	{
		signature: "unbase64(text: string) -> string", example: `unbase64("aGk/")`, result: `"hi?"`, run: runUnbase64,
		about: "Reads base 64. A text that is none, or whose bytes are not UTF-8, fails.",
	},
}

// counted takes the memory and the work of a text of n bytes from the budget.
func (fr *Frame) counted(at *site, n int) bool {
	return fr.grow(at, int64(n)) && fr.spend(at, int64(n/16))
}

func runLen(_ *Frame, _ *call, args []Value) (Value, bool) {
	if args[0].kind == KindString {
		return IntValue(int64(utf8.RuneCountInString(args[0].text))), true
	}
	return IntValue(int64(len(args[0].Elements()))), true
}

func runUpper(fr *Frame, call *call, args []Value) (Value, bool) {
	if !fr.counted(&call.site, 3*len(args[0].text)) { // a letter may need more bytes in the other case
		return Value{}, false
	}
	return StringValue(strings.ToUpper(args[0].text)), true
}

func runLower(fr *Frame, call *call, args []Value) (Value, bool) {
	if !fr.counted(&call.site, 3*len(args[0].text)) {
		return Value{}, false
	}
	return StringValue(strings.ToLower(args[0].text)), true
}

func runTrim(fr *Frame, call *call, args []Value) (Value, bool) {
	if len(args) == 1 {
		return StringValue(strings.TrimSpace(args[0].text)), true
	}
	// Each character of the text may be compared with all of the set.
	if !fr.spend(&call.site, int64(len(args[0].text))*int64(len(args[1].text)/16)) {
		return Value{}, false
	}
	return StringValue(strings.Trim(args[0].text, args[1].text)), true
}

func runTrimPrefix(_ *Frame, _ *call, args []Value) (Value, bool) {
	return StringValue(strings.TrimPrefix(args[0].text, args[1].text)), true
}

func runTrimSuffix(_ *Frame, _ *call, args []Value) (Value, bool) {
	return StringValue(strings.TrimSuffix(args[0].text, args[1].text)), true
}

func runStartsWith(_ *Frame, _ *call, args []Value) (Value, bool) {
	return BoolValue(strings.HasPrefix(args[0].text, args[1].text)), true
}

func runEndsWith(_ *Frame, _ *call, args []Value) (Value, bool) {
	return BoolValue(strings.HasSuffix(args[0].text, args[1].text)), true
}

// prepareContains checks that the types of a list's elements and of the value fit.
func prepareContains(c *compiler, n *node, _ *call, args []operand) bool {
	in, part := args[0].kind, args[1].kind
	switch {
	case part.optional:
		c.absentMistake(n.kids[1], part, "a value")
		return false
	case in.kind == KindString && !canBeEqual(part, String):
		c.mistake(n.kids[1], conversionEdit(c.text(n.kids[1]), part, String), "%s is %s, and a part of a text is a string", c.text(n.kids[1]), typeText(part))
		return false
	case in.kind == KindList && !canBeEqual(in.Elem().present(), part):
		c.mistake(n.kids[1], conversionEdit(c.text(n.kids[1]), part, in.Elem()), "%s is %s, and the elements of the list have the type %s", c.text(n.kids[1]), typeText(part), in.Elem())
		return false
	}
	return true
}

func runContains(fr *Frame, call *call, args []Value) (Value, bool) {
	switch {
	case args[1].Absent():
		return Value{}, fr.failKind(&call.args[1], args[1].kind, "a value")
	case args[0].kind == KindList:
		i, ok := fr.find(&call.site, args[0].Elements(), args[1])
		return BoolValue(i >= 0), ok
	case args[1].kind != KindString:
		return Value{}, fr.failKind(&call.args[1], args[1].kind, "a string")
	}
	return BoolValue(strings.Contains(args[0].text, args[1].text)), true
}

func runIndexOf(_ *Frame, _ *call, args []Value) (Value, bool) {
	i := strings.Index(args[0].text, args[1].text)
	if i < 0 {
		return Missing, true
	}
	return IntValue(int64(utf8.RuneCountInString(args[0].text[:i]))), true
}

// offsetOf returns the offset in bytes of a character. It is the length of the text for characters beyond the end.
func offsetOf(text string, character int64) int {
	if character <= 0 {
		return 0
	}
	for i := range text {
		if character == 0 {
			return i
		}
		character--
	}
	return len(text)
}

func runSubstring(fr *Frame, call *call, args []Value) (Value, bool) {
	text := args[0].text
	for i := range args[1:] {
		if args[i+1].Int() < 0 {
			return Value{}, fr.fail(&call.args[i+1], ReasonIndex, "is below zero: write substring(text, len(text) - n) for the last n characters")
		}
	}
	from, to := offsetOf(text, args[1].Int()), len(text)
	if len(args) == 3 {
		to = max(offsetOf(text, args[2].Int()), from)
	}
	return StringValue(text[from:to]), true
}

func runReplace(fr *Frame, call *call, args []Value) (Value, bool) {
	text, from, to := args[0].text, args[1].text, args[2].text
	if from == "" {
		return args[0], true
	}
	count := strings.Count(text, from)
	if count == 0 {
		return args[0], true
	}
	if !fr.counted(&call.site, len(text)+count*(len(to)-len(from))) {
		return Value{}, false
	}
	return StringValue(strings.ReplaceAll(text, from, to)), true
}

func runSplit(fr *Frame, call *call, args []Value) (Value, bool) {
	text, separator := args[0].text, args[1].text
	count := strings.Count(text, separator) + 1
	if !fr.grow(&call.site, int64(count)*valueSize) || !fr.spend(&call.site, int64(count)) {
		return Value{}, false
	}
	if separator == "" {
		values := fr.list(count)
		for i, c := range text {
			values = append(values, StringValue(text[i:i+utf8.RuneLen(c)]))
		}
		return ListValue(values), true
	}
	values := fr.list(count)
	for {
		part, rest, found := strings.Cut(text, separator)
		values = append(values, StringValue(part))
		if !found {
			return ListValue(values), true
		}
		text = rest
	}
}

func runJoin(fr *Frame, call *call, args []Value) (Value, bool) {
	list, separator := args[0].Elements(), args[1].text
	n := 0
	for i, v := range list {
		if v.kind != KindString {
			return Value{}, fr.failKind(&call.args[0], v.kind, "a list of strings: write map(list, x => string(x)),")
		}
		if n += len(v.text); i > 0 {
			n += len(separator)
		}
		if n > 1<<30 {
			break // more than any budget, and no int may overflow
		}
	}
	if !fr.counted(&call.site, n) {
		return Value{}, false
	}
	t := fr.room(n)
	from := t.Len()
	for i, v := range list {
		if i > 0 {
			t.WriteString(separator)
		}
		t.WriteString(v.text)
	}
	return StringValue(t.String()[from:]), true
}

func runRepeat(fr *Frame, call *call, args []Value) (Value, bool) {
	text, times := args[0].text, args[1].Int()
	if times < 0 {
		return Value{}, fr.fail(&call.args[1], ReasonValue, "is below zero")
	}
	n, ok := mulInt(int64(len(text)), times)
	if !ok {
		n = -1 // which is more than any budget
	}
	if !fr.grow(&call.site, n) || !fr.spend(&call.site, n/16) {
		return Value{}, false
	}
	return StringValue(strings.Repeat(text, int(times))), true
}

func runPadLeft(fr *Frame, call *call, args []Value) (Value, bool) {
	padding, ok := fr.padding(call, args)
	if !ok {
		return Value{}, false
	}
	return fr.concat(&call.site, padding, args[0].text)
}

func runPadRight(fr *Frame, call *call, args []Value) (Value, bool) {
	padding, ok := fr.padding(call, args)
	if !ok {
		return Value{}, false
	}
	return fr.concat(&call.site, args[0].text, padding)
}

// padding returns the text that pads the first argument.
func (fr *Frame) padding(call *call, args []Value) (string, bool) {
	fill := " "
	if len(args) == 3 {
		fill = args[2].text
		if utf8.RuneCountInString(fill) != 1 {
			return "", fr.fail(&call.args[2], ReasonValue, "has to be one character")
		}
	}
	missing := args[1].Int() - int64(utf8.RuneCountInString(args[0].text))
	if missing <= 0 {
		return "", true
	}
	bytes := int64(-1) // which is more than any budget
	if missing <= fr.bytes {
		bytes = missing * int64(len(fill))
	}
	if !fr.grow(&call.site, bytes) || !fr.spend(&call.site, bytes/16) {
		return "", false
	}
	return strings.Repeat(fill, int(missing)), true
}

func runReverse(fr *Frame, call *call, args []Value) (Value, bool) {
	if args[0].kind == KindList {
		list := args[0].Elements()
		if !fr.grow(&call.site, int64(len(list))*valueSize) {
			return Value{}, false
		}
		reversed := append(fr.list(len(list)), list...)
		slices.Reverse(reversed)
		return ListValue(reversed), true
	}
	text := args[0].text
	if !fr.counted(&call.site, 5*len(text)) { // four bytes for each character on the way
		return Value{}, false
	}
	runes := []rune(text)
	slices.Reverse(runes)
	return StringValue(string(runes)), true
}

func runSHA256(fr *Frame, call *call, args []Value) (Value, bool) {
	const digits = 2 * sha256.Size
	if !fr.spend(&call.site, int64(len(args[0].text)/4)) || !fr.grow(&call.site, digits+int64(len(args[0].text))) {
		return Value{}, false
	}
	sum := sha256.Sum256([]byte(args[0].text))
	var text [digits]byte
	hex.Encode(text[:], sum[:])
	return StringValue(fr.keep(text[:])), true
}

func runBase64(fr *Frame, call *call, args []Value) (Value, bool) {
	if !fr.counted(&call.site, 2*base64.StdEncoding.EncodedLen(len(args[0].text))) {
		return Value{}, false
	}
	return StringValue(base64.StdEncoding.EncodeToString([]byte(args[0].text))), true
}

func runUnbase64(fr *Frame, call *call, args []Value) (Value, bool) {
	if !fr.counted(&call.site, 2*len(args[0].text)) {
		return Value{}, false
	}
	b, err := base64.StdEncoding.DecodeString(args[0].text)
	if err != nil || !utf8.Valid(b) {
		return Value{}, fr.fail(&call.site, ReasonValue, "the text is not base 64 of UTF-8")
	}
	return StringValue(string(b)), true
}
