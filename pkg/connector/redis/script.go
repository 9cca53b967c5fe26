package redis

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts so
	_ "embed"
	"encoding/hex"
	"strings"

	"github.com/kisgrid/kisgrid/internal/redisreply"
)

//go:embed save.lua
var saveSource string

// saveScript is what carries out Saves, and the name by which Redis knows it once it has run.
var saveScript = newLuaScript(strings.Replace(saveSource, "{--[[row answers]]}", luaList(rowAnswers), 1))

// luaList is a list of texts as Lua writes it.
func luaList(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = "'" + text + "'"
	}
	return "{" + strings.Join(quoted, ", ") + "}"
}

type luaScript struct{ source, sha string }

func newLuaScript(source string) luaScript {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // as above
	return luaScript{source, hex.EncodeToString(sum[:])}
}

// isNoScript reports that Redis does not know a script by its name: it was restarted, or is another one.
func isNoScript(err error) bool {
	return err != nil && redisreply.IsAnswer(err) && strings.HasPrefix(err.Error(), "NOSCRIPT")
}
