/** What a person typed -> what they mean. A fixed grammar: the same words always do the same thing. */

export type Command =
  | { verb: 'add'; title: string }
  | { verb: 'list' }
  | { verb: 'done' | 'delete'; id: number }
  | { verb: 'help' }

/** The most characters the backend takes in a title. */
export const MAX_TITLE_LENGTH = 200

/** Room for a verb and the longest title. */
export const MAX_MESSAGE_LENGTH = 300

export const HELP = 'I know: add <what>, list, done <number>, delete <number>.'

const VERBS: Record<string, Command['verb']> = {
  add: 'add',
  new: 'add',
  list: 'list',
  show: 'list',
  done: 'done',
  complete: 'done',
  delete: 'delete',
  remove: 'delete',
}

/** A sentence saying what is missing, where the verb is known but the rest is not what it takes. */
export type Complaint = { complaint: string }

export function parse(message: string): Command | Complaint {
  const [, word = '', rest = ''] = /^\s*(\S+)\s*(.*?)\s*$/s.exec(message) ?? []
  const verb = Object.hasOwn(VERBS, word.toLowerCase()) ? VERBS[word.toLowerCase()] : 'help'
  switch (verb) {
    case 'add':
      if (rest === '') return { complaint: 'Add what? For example: add buy milk.' }
      if ([...rest].length > MAX_TITLE_LENGTH) {
        return { complaint: `A task has at most ${MAX_TITLE_LENGTH} characters.` }
      }
      return { verb, title: rest }
    case 'done':
    case 'delete': {
      const id = /^#?([1-9]\d{0,9})$/.exec(rest)?.[1]
      return id ? { verb, id: Number(id) } : { complaint: `Which one? For example: ${verb} 3.` }
    }
    case 'list':
      return { verb }
    default:
      return { verb: 'help' }
  }
}
