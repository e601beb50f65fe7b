/**
 * POST {"message": "add buy milk"} -> {"reply": "Added 1. buy milk"}.
 *
 * 400 and 413 for a request that is not that, 502 and 503 when the backend fails; then the body is {"error": "..."}.
 */

import { answer } from '@/lib/answer'
import { MAX_MESSAGE_LENGTH } from '@/lib/commands'
import { BackendError } from '@/lib/tasks'

export const dynamic = 'force-dynamic'

/** Every character of the longest message as a JSON escape, and the frame around them. */
const MAX_BODY_BYTES = 12 * MAX_MESSAGE_LENGTH + 100

class BadRequest extends Error {
  constructor(
    message: string,
    readonly status: 400 | 413 | 415 = 400,
  ) {
    super(message)
  }
}

export async function POST(request: Request): Promise<Response> {
  try {
    return Response.json({ reply: await answer(await readMessage(request)) })
  } catch (error) {
    if (error instanceof BadRequest || error instanceof BackendError) {
      return Response.json({ error: error.message }, { status: error.status })
    }
    throw error
  }
}

async function readMessage(request: Request): Promise<string> {
  // A form on another site can post text, but not JSON without this server's consent.
  if (request.headers.get('content-type')?.split(';')[0]?.trim() !== 'application/json') {
    throw new BadRequest('Send application/json.', 415)
  }
  const message = messageIn(await readBody(request))
  if (message.trim() === '') throw new BadRequest('Write a message first.')
  if ([...message].length > MAX_MESSAGE_LENGTH) {
    throw new BadRequest(`A message has at most ${MAX_MESSAGE_LENGTH} characters.`)
  }
  if (/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u.test(message)) {
    throw new BadRequest('A message is one line without control characters.')
  }
  return message
}

function messageIn(body: string): string {
  try {
    const parsed: unknown = JSON.parse(body)
    if (parsed !== null && typeof parsed === 'object' && 'message' in parsed && typeof parsed.message === 'string') {
      return parsed.message
    }
  } catch {
    // Not JSON: the same answer as JSON of another shape.
  }
  throw new BadRequest('Send {"message": "..."}.')
}

/** The body as text, given up as soon as it is too long. */
async function readBody(request: Request): Promise<string> {
  const decoder = new TextDecoder()
  let size = 0
  let text = ''
  for await (const chunk of request.body ?? []) {
    size += chunk.byteLength
    if (size > MAX_BODY_BYTES) throw new BadRequest('The request is too long.', 413)
    text += decoder.decode(chunk, { stream: true })
  }
  return text + decoder.decode()
}
